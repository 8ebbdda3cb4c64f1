"""The forward proxy that the environment names for an address, and what to say where it does not lead there.

Knows variables and exceptions; knows no requests. A proxy's password is in no word that is shown.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

from umbel.runtime.transports.http.answers import passes

__all__ = ["Forward", "forward_for"]

_WORDS: list[tuple[type[BaseException], str]] = [
    (socket.gaierror, "has a name that cannot be resolved"),
    (ConnectionRefusedError, "refuses connections: nothing listens there"),
    (TimeoutError, "does not answer in time"),
    (ConnectTimeoutError, "does not answer in time"),
]
_WORDLESS = "does not speak as a proxy does"


@dataclass(frozen=True, slots=True)
class Forward:
    """A proxy: its URL without user and password, the headers that carry these, and the variable that names it."""

    url: str
    headers: dict[str, str]
    variable: str
    target: str  # host:port of the server

    @property
    def shown(self) -> str:
        return f"the proxy {self.url}, which {self.variable} names,"

    @property
    def way_out(self) -> str:
        host = self.target.rpartition(":")[0].strip("[]")
        return f"correct {self.variable}, or, where the server is reached without a proxy, add {host} to NO_PROXY"

    def why_not(self, error: BaseException) -> tuple[str, bool] | None:
        """What went wrong on the way through the proxy, and whether that does not end by itself; None where nothing did."""
        for cause in _causes(error):
            refused = re.match(r"Tunnel connection failed: (\d{3}) ?(.*)", str(cause))
            if refused is not None and isinstance(cause, OSError):
                status = int(refused[1])
                return self.why_refused(status, refused[2]), not passes(status)
        if not any(isinstance(cause, ProxyError) for cause in _causes(error)):
            return None
        what = next((words for cause in _causes(error) for kind, words in _WORDS if isinstance(cause, kind)), _WORDLESS)
        return f"{self.shown} {what}; no way to {self.target}. {self.way_out[0].upper()}{self.way_out[1:]}", False

    def why_refused(self, status: int, said: str) -> str:
        """What a status of the proxy's own means, and what to do about it."""
        remedy = self.way_out
        if status == 407:
            remedy = f"it wants a user and a password: write them into {self.variable}, as http://USER:PASSWORD@HOST:PORT"
        elif status in (401, 403):
            remedy = f"it does not let this client through; ask whoever runs it, or {self.way_out}"
        return f"{self.shown} refused to connect to {self.target} with {status} {said}".rstrip() + f"; {remedy}"


def forward_for(scheme: str, host: str, port: int) -> Forward | None:
    """The proxy that the environment names for this address; never one for loopback.

    Raises `ValueError` where what it names is no HTTP proxy.
    """
    if _is_direct(host, port):
        return None
    given = urllib.request.getproxies().get(scheme)
    if not given:
        return None
    variable = next((name for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY") if os.environ.get(name)), "")
    variable = variable or "this system's settings"
    try:
        parts = urllib3.util.parse_url(given if "://" in given else f"http://{given}")
    except urllib3.exceptions.LocationParseError:
        parts = urllib3.util.Url()
    if parts.scheme not in ("http", "https") or not parts.host:
        kind = f"a proxy of the kind {parts.scheme}" if parts.scheme and parts.host else "no URL of a proxy"
        raise ValueError(
            f"{variable} names {kind}; Umbel goes through HTTP proxies, such as http://proxy.example.org:3128. Correct it, "
            f"or add {host} to NO_PROXY"
        )
    headers = urllib3.util.make_headers(proxy_basic_auth=unquote(parts.auth)) if parts.auth else {}
    bare = urllib3.util.Url(parts.scheme, None, parts.host, parts.port or {"http": 80, "https": 443}[parts.scheme])
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Forward(bare.url, dict(headers), variable, target)


def _is_direct(host: str, port: int) -> bool:
    """Whether no proxy stands before this address: it is loopback's, or NO_PROXY has it, by name or by network."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost" or bool(urllib.request.proxy_bypass(f"{host}:{port}"))
    if address.is_loopback:
        return True
    for text in urllib.request.getproxies().get("no", "").split(","):
        with contextlib.suppress(ValueError):
            if address in ipaddress.ip_network(text.strip(), strict=False):
                return True
    return bool(urllib.request.proxy_bypass(f"[{host}]:{port}" if address.version == 6 else f"{host}:{port}"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that it was wrapped around."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if one in seen:
            continue
        seen.append(one)
        if type(one) is not NewConnectionError:  # which is a kind of timeout, whatever its cause
            yield one
        waiting += [part for part in (*one.args, one.__cause__, one.__context__) if isinstance(part, BaseException)]
