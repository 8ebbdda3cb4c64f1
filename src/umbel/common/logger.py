"""The logger "umbel" and the classic `log(level, message, *args)`."""

from umbel.runtime.log import log, logger

__all__ = ["log", "logger"]
