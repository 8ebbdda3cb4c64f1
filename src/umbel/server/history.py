"""What a run leaves behind."""

from umbel.runtime.observers.history import History

__all__ = ["History"]
