"""The PROXY protocol, versions 1 and 2: who has connected to the proxy, said once before all else. Knows bytes only.

https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
"""

from __future__ import annotations

import ipaddress

__all__ = ["read_header"]

_V1, _V2 = b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST_V1 = 107  # bytes, by the specification
_LONGEST_V2 = 4096  # bytes after its first 16: addresses, and what a proxy may add about TLS


def read_header(data: bytes) -> tuple[int, str] | None:
    """How many bytes of `data` the header takes, and the address that it names; None where more bytes have to come.

    Where there is no header, or one that cannot be read, it takes none. The proxy's own connections name no address.

    >>> read_header(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\\r\\nGET / HTTP/1.1")
    (41, '192.0.2.7')
    >>> read_header(b"GET / HTTP/1.1"), read_header(b"PRO")
    ((0, ''), None)
    """
    if data[:6] == _V1[: len(data)]:
        return _read_v1(data)
    if data[:12] == _V2[: len(data)]:
        return _read_v2(data)
    return 0, ""


def _read_v1(data: bytes) -> tuple[int, str] | None:
    end = data.find(b"\r\n", 0, _LONGEST_V1)
    if end < 0:
        return None if len(data) < _LONGEST_V1 else (0, "")
    words = data[:end].decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return end + 2, ""
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        return 0, ""
    try:
        return end + 2, str(ipaddress.ip_address(words[2]))
    except ValueError:
        return 0, ""


def _read_v2(data: bytes) -> tuple[int, str] | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16])
    if command not in (0x20, 0x21) or length > _LONGEST_V2:
        return 0, ""
    if len(data) < 16 + length:
        return None
    size = {0x11: 4, 0x12: 4, 0x21: 16, 0x22: 16}.get(family, 0)
    if command == 0x20 or not size or length < size:  # a check of the proxy's own, or a socket without an address
        return 16 + length, ""
    return 16 + length, str(ipaddress.ip_address(data[16 : 16 + size]))
