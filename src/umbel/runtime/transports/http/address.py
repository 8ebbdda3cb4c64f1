"""Server addresses as people write them."""

from __future__ import annotations

import re

__all__ = ["parse_address"]


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port", "[v6]:port" or "http://host:port". Raises `ValueError`.

    >>> parse_address("[::]:8080"), parse_address("0.0.0.0:80")
    (('::', 8080), ('0.0.0.0', 80))
    """
    bare = address.removeprefix("http://").removeprefix("https://").rstrip("/")
    match = re.fullmatch(r"(\[[^\s/\[\]]+\]|[^\s/\[\]:]+):([0-9]{1,5})", bare)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"server_address {address!r} is not host:port, such as '127.0.0.1:8080' or '[::]:8080'")
    return match[1].strip("[]"), int(match[2])
