"""What needs the extra `security`, and says so where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["extra"]


@contextmanager
def extra(what: str) -> Iterator[None]:
    """Inside, packages of the extra are imported; an `ImportError` names the remedy."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{what} need the package {error.name}: pip install 'umbel[security]'", name=error.name) from None
