"""The logger "umbel" under its classic names: `log(level, message, *args)`, `configure(identifier, filename)`.

`umbel.common.logger` may be used as the logger itself, too: `umbel.common.logger.warning("...")`.
"""

from __future__ import annotations

from pathlib import Path

from umbel.runtime.log import keep_in_file, log, logger

__all__ = ["configure", "log", "logger"]


def configure(identifier: str, filename: str | Path | None = None, host: str | None = None) -> None:
    """Writes Umbel's lines into the file `filename`, too, each with its time and after `identifier`.

    Without a file nothing changes. Raises `ValueError` for `host`: Umbel sends its log nowhere by itself.
    """
    if host is not None:
        raise ValueError(
            f"host={host!r}; Umbel sends its log nowhere: leave host out, or add a handler of your own, such as "
            "logging.getLogger('umbel').addHandler(logging.handlers.HTTPHandler(...))"
        )
    if filename is not None:
        keep_in_file(filename, identifier)


def __getattr__(name: str) -> object:
    return getattr(logger, name)
