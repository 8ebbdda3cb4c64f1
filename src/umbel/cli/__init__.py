"""The command `umbel`."""

from umbel.cli.main import main

__all__ = ["main"]
