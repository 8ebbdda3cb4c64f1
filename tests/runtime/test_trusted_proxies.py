"""Whose request it is that comes through a proxy: by its headers, and by the PROXY protocol, where the proxy is trusted."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import time

import pytest

from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.http.connections import Limits
from umbel.runtime.transports.http.forwarded import TrustedProxies
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.protocol import Register, encode
from umbel.runtime.transports.http.proxy_header import read_header
from umbel.runtime.transports.http.server import HttpTransport
from umbel.server import start_server

OURS = TrustedProxies(["127.0.0.1", "::1", "10.0.0.0/8"])
ONE = {"x-forwarded-for": "192.0.2.7"}


@pytest.mark.parametrize(
    ("host", "headers", "sender"),
    [
        ("127.0.0.1", ONE, "192.0.2.7"),
        ("::ffff:127.0.0.1", ONE, "192.0.2.7"),  # as a socket for IPv6 and IPv4 tells it
        ("192.0.2.9", ONE, "192.0.2.9"),  # whoever comes directly may write what he likes
        ("127.0.0.1", {}, "127.0.0.1"),
        ("127.0.0.1", {"x-forwarded-for": "6.6.6.6, 192.0.2.7"}, "192.0.2.7"),  # the first was there before the proxy
        ("127.0.0.1", {"x-forwarded-for": "6.6.6.6, 192.0.2.7, 10.1.2.3"}, "192.0.2.7"),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7:4711"}, "192.0.2.7"),
        ("127.0.0.1", {"x-forwarded-for": "2001:db8::7"}, "2001:db8::7"),
        ("127.0.0.1", {"x-forwarded-for": "[2001:db8::7]:4711"}, "2001:db8::7"),
        ("127.0.0.1", {"x-forwarded-for": "::ffff:192.0.2.7"}, "192.0.2.7"),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.1"}, "10.0.0.1"),  # the proxy's own machine
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7, unknown"}, "127.0.0.1"),
        ("127.0.0.1", {"x-forwarded-for": "nobody's address\x1b"}, "127.0.0.1"),
        ("127.0.0.1", {"x-forwarded-for": ""}, "127.0.0.1"),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7," * 10_000 + "192.0.2.8"}, "192.0.2.8"),
        ("127.0.0.1", {"forwarded": "for=192.0.2.7;proto=https;by=10.0.0.1"}, "192.0.2.7"),
        ("127.0.0.1", {"forwarded": 'proto=https;For="[2001:db8::7]:4711"'}, "2001:db8::7"),
        ("127.0.0.1", {"forwarded": 'for=6.6.6.6, for="192.0.2.7", for=10.9.9.9'}, "192.0.2.7"),
        ("127.0.0.1", {"forwarded": 'for=_hidden, for="_a,b"'}, "127.0.0.1"),
        ("127.0.0.1", {"forwarded": "by=192.0.2.7"}, "127.0.0.1"),
        ("127.0.0.1", ONE | {"forwarded": "for=192.0.2.7"}, "192.0.2.7"),
        ("127.0.0.1", ONE | {"forwarded": "for=6.6.6.6"}, "127.0.0.1"),  # one of them was the client's to write
    ],
)
def test_an_address_is_believed_as_far_as_whoever_tells_it_is_trusted(host, headers, sender):
    assert OURS.sender(host, headers) == sender


@pytest.mark.parametrize("given", ["nginx", "10.0.0.1/8", "*", "127.0.0.1:80", ""])
def test_what_is_no_address_and_no_network_is_named(given):
    with pytest.raises(ValueError, match=r"trusted_proxies has '.*which is neither an address nor a network .* write '127"):
        start_server(server_address="127.0.0.1:0", trusted_proxies=[given], store=None)


def version_2(address, *, command=0x21, more=b""):
    ip = ipaddress.ip_address(address)
    addresses = ip.packed + ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1").packed + bytes(4) + more
    family = 0x11 if ip.version == 4 else 0x21
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([command, family]) + len(addresses).to_bytes(2) + addresses


HEADERS = {
    "version 1": (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n", "192.0.2.7"),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", "2001:db8::7"),
    "version 1, unknown": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""),
    "version 2": (version_2("192.0.2.7"), "192.0.2.7"),
    "version 2, IPv6": (version_2("2001:db8::7"), "2001:db8::7"),
    "version 2, with more": (version_2("192.0.2.7", more=b"\x02\0\x03abc"), "192.0.2.7"),
    "version 2, the proxy's own": (version_2("192.0.2.7", command=0x20), ""),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_proxy_s_header_is_read_when_all_of_it_is_there_and_nothing_else_of_what_comes(name):
    header, address = HEADERS[name]
    for end in range(len(header)):
        assert read_header(header[:end]) is None
    assert read_header(header + b"PROXY TCP4 ") == (len(header), address)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/next HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\nGET / HTTP/1.1",
        b"PROXY TCP4 hospital-1 127.0.0.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP9 192.0.2.7 127.0.0.1 4711 443\r\n",
        b"PROXY " + b"x" * 200,
        version_2("192.0.2.7", command=0x31),
        version_2("192.0.2.7")[:14] + b"\xff\xff",
    ],
)
def test_what_is_no_such_header_is_left_as_it_is(data):
    assert read_header(data) == (0, "")


@contextlib.contextmanager
def serving(trusted, *, tls=None, **limits):
    listener = Listener("127.0.0.1:0", tls=tls, trusted=TrustedProxies(trusted))
    transport = HttpTransport(listener, "run", MemoryStore(), limits=Limits(**limits))
    try:
        yield listener.port
    finally:
        transport.close("", over=False)


def register(port, name, *, first=b"", headers=(), tls=None):
    """The status of a registration, on a connection that begins with these bytes, one after another."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in first:
            connection.sendall(bytes([byte]))
        if tls is not None:
            connection = stack.enter_context(tls.wrap_socket(connection, server_hostname="localhost"))
        body = encode(Register(1, name))
        lines = [f"{key}: {value}" for key, value in {"host": "x", "content-length": len(body), **dict(headers)}.items()]
        connection.sendall("\r\n".join(["POST /v1/register HTTP/1.1", *lines, "", ""]).encode() + body)
        response = stack.enter_context(contextlib.closing(http.client.HTTPResponse(connection)))
        response.begin()
        return response.status


def told_by_header(port, name, address, tls=None):
    return register(port, name, headers={"x-forwarded-for": address}, tls=tls)


def told_by_version_1(port, name, address, tls=None):
    return register(port, name, first=f"PROXY TCP4 {address} 127.0.0.1 1 2\r\n".encode(), tls=tls)


def told_by_version_2(port, name, address, tls=None):
    return register(port, name, first=version_2(address), tls=tls)


WAYS = [told_by_header, told_by_version_1, told_by_version_2]
RARE = {"registrations": (0.001, 1)}  # one of each address


@pytest.mark.parametrize("way", WAYS)
def test_a_limit_hits_the_client_that_reaches_it_and_not_everybody_behind_its_proxy(way, caplog):
    with serving(["127.0.0.1"], **RARE) as port:
        assert [way(port, "a", "192.0.2.7"), way(port, "b", "192.0.2.7"), way(port, "c", "192.0.2.8")] == [200, 429, 200]
    assert "192.0.2.7: refused POST '/v1/register' with 429: too many registrations from 192.0.2.7" in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_nobody_else_is_believed(way, caplog):
    with serving(["10.0.0.0/8"], **RARE) as port:
        for address in ("192.0.2.7", "192.0.2.8"):
            with contextlib.suppress(OSError, http.client.HTTPException):  # its first bytes are no request
                way(port, "a", address)
        assert register(port, "c") == (429 if way is told_by_header else 200)
    assert "192.0.2" not in caplog.text


def test_a_client_behind_two_proxies_is_told_by_both():
    with serving(["127.0.0.1", "192.0.2.1"], **RARE) as port:
        first = b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n"
        told = [register(port, name, first=first, headers={"forwarded": f"for=198.51.100.{name}"}) for name in "112"]
    assert told == [200, 429, 200]


def test_a_proxy_s_own_connections_are_as_many_as_it_likes():
    with serving(["127.0.0.1"], strangers=2) as port, contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(10)]
        for connection in opened:
            ask(connection)
        first = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(3)]
        for connection in first:  # and of those that are one client's, the oldest makes room
            connection.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n")
            ask(connection)
        until = time.monotonic() + 10
        while not _ended(first[0]):
            assert time.monotonic() < until
        ask(opened[0])


def ask(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"present\n"):
        answer += connection.recv(10_000)
        assert answer
    assert answer.startswith(b"HTTP/1.1 200")


def _ended(connection):
    connection.settimeout(0.05)
    try:
        return connection.recv(10_000) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """TLS for a server that hears proxies, and for a client."""
    pytest.importorskip("cryptography", reason="needs the extra security: PROXIES BELOW TLS ARE NOT TESTED HERE")
    from umbel.runtime.security.certificates import issue, make_authority
    from umbel.runtime.security.tls import server_context

    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder, days=10)
    pair = issue(folder, "server", "localhost", ["localhost"], days=1, server=True)
    server = server_context(
        (folder / "ca.pem", *pair), client_certificates=False, failed=lambda why: None, header=read_header
    )
    return server, ssl.create_default_context(cafile=folder / "ca.pem")


@pytest.mark.parametrize("way", WAYS)
def test_where_tls_passes_through_the_proxy_it_is_told_before_the_handshake(way, contexts):
    server, client = contexts
    with serving(["127.0.0.1"], tls=server, **RARE) as port:
        told = [way(port, "a", f"192.0.2.{number}", client) for number in (7, 7, 8)]
    assert told == [200, 429, 200]


def test_below_tls_nobody_else_is_believed(contexts):
    server, client = contexts
    with serving(["10.0.0.0/8"], tls=server, **RARE) as port:
        with pytest.raises((OSError, http.client.HTTPException)):
            told_by_version_2(port, "a", "192.0.2.7", client)
        assert register(port, "a", tls=client) == 200
