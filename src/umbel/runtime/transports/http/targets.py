"""Requests in the form that only a proxy is sent: with a URL where a server gets a path. Knows no meaning of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["note_targets", "target_elsewhere"]

_KEY = "umbel.target"
_SHOWN = 200  # characters of a URL


def note_targets(base: Any) -> Any:
    """uvicorn's protocol class `base`, which keeps nothing of a URL but its path; h11 knows no other form."""

    class Noting(base):  # type: ignore[misc]  # one of two classes
        def on_headers_complete(self) -> None:
            if not self.url.startswith(b"/"):
                self.scope[_KEY] = self.url[:_SHOWN].decode("ascii", "replace")
            super().on_headers_complete()

    return Noting


def target_elsewhere(scope: Mapping[str, Any]) -> str:
    """The URL that this request is to be passed on to, by a proxy; "" where it is for this server."""
    target: str = scope.get(_KEY, "")
    return target
