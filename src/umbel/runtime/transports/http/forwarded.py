"""Whose request it is that a reverse proxy passes on, where the proxy's word is trusted. Knows addresses; knows no sockets.

Anybody can write a header. So the addresses in it are read from the last one back, as long as whoever has added it is
trusted: the first that is not is the client's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

__all__ = ["TrustedProxies", "plain"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LONGEST = 4096  # characters of a header that are read, from its end
_FOR = re.compile(r"""(?ix) (?:^|;) \s* for \s* = \s* ( "[^"]*" | [^;"\s]+ )""")
_NODE = re.compile(r"\[([0-9a-fA-F:.]+)\](?::\w+)?|([0-9.]+)(?::\w+)?|([0-9a-fA-F:.]+)")


class TrustedProxies:
    """The addresses and networks of proxies. Raises `ValueError` for what is neither.

    >>> proxies = TrustedProxies(["127.0.0.1", "10.0.0.0/8"])
    >>> proxies.sender("127.0.0.1", {"x-forwarded-for": "6.6.6.6, 192.0.2.7, 10.1.2.3"})
    '192.0.2.7'
    >>> proxies.sender("192.0.2.7", {"x-forwarded-for": "6.6.6.6"})
    '192.0.2.7'
    """

    def __init__(self, given: str | Iterable[str] = ()) -> None:
        self._networks = [_network(text) for text in ([given] if isinstance(given, str) else given)]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def has(self, host: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)

    def sender(self, host: str, headers: Mapping[str, str]) -> str:
        """The address of the client whose request came from `host` with these headers.

        Where two headers do not agree, one of them was the client's to write, and the proxy itself is the sender.
        """
        if not self.has(host):
            return host
        told = {self._walk(host, chain) for chain in (_x_forwarded_for(headers), _read_forwarded(headers)) if chain}
        return told.pop() if len(told) == 1 else host

    def _walk(self, host: str, chain: list[str]) -> str:
        for node in reversed(chain):
            match = _NODE.fullmatch(node) if self.has(host) else None
            address = None if match is None else _address(match[1] or match[2] or match[3])
            if address is None:  # hidden, unknown, or nobody's who is trusted
                return host
            host = str(address)
        return host


@lru_cache(maxsize=4096)  # of a connection: a hundredth of what it costs
def plain(host: str) -> str:
    """An address as it is shown: of IPv4 where it is that within IPv6; whatever is no address stays.

    >>> plain("::ffff:192.0.2.7")
    '192.0.2.7'
    """
    address = _address(host)
    return host if address is None else str(address)


def _x_forwarded_for(headers: Mapping[str, str]) -> list[str]:
    return [node.strip() for node in _join(headers, "x-forwarded-for").split(",")] if "x-forwarded-for" in headers else []


def _read_forwarded(headers: Mapping[str, str]) -> list[str]:
    """The header of RFC 7239: for each hop, whom it was for."""
    if "forwarded" not in headers:
        return []
    hops = re.findall(r'(?:"[^"]*"|[^,"])+', _join(headers, "forwarded"))
    found = [_FOR.search(hop) for hop in hops]
    return ["unknown" if match is None else match[1].strip('"') for match in found]


def _join(headers: Mapping[str, str], name: str) -> str:
    lines = headers.getlist(name) if hasattr(headers, "getlist") else [headers[name]]
    return ",".join(lines)[-_LONGEST:]


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        why = str(error)
    raise ValueError(
        f"trusted_proxies has {text!r}, which is neither an address nor a network ({why}); write '127.0.0.1' or "
        "'10.0.0.0/8', and for every address '0.0.0.0/0' and '::/0'"
    )
