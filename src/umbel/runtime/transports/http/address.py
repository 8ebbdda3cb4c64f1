"""Server addresses as people write them: where a server listens, and where a client finds it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

__all__ = ["Target", "parse_address", "parse_target"]

_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[^\s/\[\]@]+\]|[^\s/\[\]:@?#]+)(?::([0-9]{1,5}))?")
_IN_A_PATH = "/%:@!$&'()*+,;=~-._"  # what RFC 3986 lets stand in a path


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client finds its server. `scheme` is "" where the address names none; `path` is "" or begins with "/"."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port", "[v6]:port" or "http://host:port", for a server to listen on. Raises `ValueError`.

    >>> parse_address("[::]:8080"), parse_address("0.0.0.0:80")
    (('::', 8080), ('0.0.0.0', 80))
    """
    bare = address.removeprefix("http://").removeprefix("https://").rstrip("/")
    match = re.fullmatch(r"(\[[^\s/\[\]]+\]|[^\s/\[\]:]+):([0-9]{1,5})", bare)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"server_address {address!r} is not host:port, such as '127.0.0.1:8080' or '[::]:8080'")
    return match[1].strip("[]"), int(match[2])


def parse_target(address: str) -> Target:
    """What "host:port", or a URL of scheme http or https, names for a client. Raises `ValueError`.

    >>> parse_target("https://fl.example.org/federation/")
    Target(scheme='https', host='fl.example.org', port=443, path='/federation')
    >>> parse_target("[::1]:8080").authority
    '[::1]:8080'
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        host, port = parse_address(address)
        return Target("", host, port)
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise ValueError(
            f"server_address {address!r} has the scheme {scheme!r}; Umbel speaks http and https: give 'host:port', or a URL "
            "such as 'https://fl.example.org/federation'"
        )
    authority, slash, path = rest.partition("/")
    if "@" in authority:  # shown without what may be a password
        raise ValueError(
            "server_address has a user name or a password in it, which Umbel does not send; join with join_token=, and "
            "leave out everything before the '@'"
        )
    match = _AUTHORITY.fullmatch(authority)
    if match is None or int(match[2] or 0) > 65535:
        raise ValueError(f"server_address {address!r} is no URL such as 'https://fl.example.org/federation'")
    if "?" in path or "#" in path or any(part in (".", "..") for part in path.split("/")):
        raise ValueError(f"server_address {address!r} is more than scheme, host, port and path; leave out '?', '#' and '..'")
    host = match[1].strip("[]")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise ValueError(f"server_address {address!r} has a host name that cannot be") from None
    return Target(scheme, host, int(match[2] or _PORTS[scheme]), quote(slash + path, safe=_IN_A_PATH).rstrip("/"))
