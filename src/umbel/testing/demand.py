"""How a conformance check fails: with a sentence that says what was promised and what came instead."""

from __future__ import annotations

__all__ = ["demand"]


def demand(true: bool, otherwise: str) -> None:
    """Raises `AssertionError` with the sentence `otherwise` unless `true`."""
    if not true:
        raise AssertionError(otherwise)
