"""Keywords that programs bring along and that mean nothing here: taken, and named once."""

from __future__ import annotations

from umbel.runtime.log import logger

__all__ = ["name_ignored"]

_named: set[str] = set()


def name_ignored(function: str, **keywords: object) -> None:
    """Says, once per process, which of these keywords were given without need (not None)."""
    for name, value in keywords.items():
        key = f"{function}({name}=)"
        if value is not None and key not in _named:
            _named.add(key)
            logger.info("%s has no meaning in Umbel and is ignored", key)
