"""Whose answer a response is: the server's, or somebody's on the way to it. Knows HTTP's words; knows no sockets.

An Umbel server answers with MessagePack, with a part of a safetensors file, or, where it cannot even read a request, with a
text that the header `umbel-server` marks as its own. Whatever else comes is from a reverse proxy, a forward proxy, a captive
portal, or a server of something else.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from umbel.runtime.observers.console import printable
from umbel.runtime.transports.http.protocol import OURS

__all__ = ["describe", "is_the_servers", "passes"]

_TITLE = re.compile(rb"(?is)<title[^>]*>(.{1,300}?)</title>|<h1[^>]*>(.{1,300}?)</h1>")


def is_the_servers(headers: Mapping[str, str], status: int) -> bool:
    """Whether an Umbel server has made this response."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/msgpack" or OURS in headers:
        return True
    if kind == "application/octet-stream":
        return status in (200, 206) and "content-range" in headers
    return status == 204 and not kind


def passes(status: int) -> bool:
    """Whether a refusal by somebody on the way ends by itself: the server, or the way to it, is down or busy."""
    return status in (408, 425, 429) or status >= 500


def describe(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """What somebody who is not the server has answered, on one line.

    >>> describe(502, {"server": "nginx", "content-type": "text/html"}, b"<title>502 Bad Gateway</title>")
    'answered 502 (nginx: 502 Bad Gateway)'
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    title = _TITLE.search(body[:20_000])
    if title is not None:
        said = html.unescape((title[1] or title[2]).decode(errors="replace"))
    elif kind == "text/html":
        said = "an HTML page"
    elif kind == "text/plain":
        said = body[:500].decode(errors="replace")
    else:
        said = kind or "nothing that says what it is"
    words = ": ".join(filter(None, (headers.get("server", ""), " ".join(said.split()))))
    where = headers.get("location", "")
    points = f" and points to {printable(where, 200)!r}" if 300 <= status < 400 and where else ""
    return f"answered {status} ({printable(words, 300)}){points}"
