"""Server addresses as people write them."""

from __future__ import annotations

__all__ = ["parse_address"]


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port", "[v6]:port" or "http://host:port". Raises `ValueError`.

    >>> parse_address("[::]:8080"), parse_address("0.0.0.0:80")
    (('::', 8080), ('0.0.0.0', 80))
    """
    bare = address.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, colon, port = bare.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"server_address {address!r} is not host:port, such as '127.0.0.1:8080' or '[::]:8080'")
    return host.removeprefix("[").removesuffix("]"), int(port)
