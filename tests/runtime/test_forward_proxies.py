"""A client whose environment names a forward proxy: one that refuses, is absent, or answers for somebody else."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import threading
import time

import pytest

from umbel.client import start_client
from umbel.errors import ServerRefused, ServerUnreachable
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.http import client as client_side
from umbel.runtime.transports.http.forward import forward_for
from umbel.runtime.transports.http.link import Foreign, Link, Unreachable
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.server import HttpTransport
from umbel.training import NumPyClient

SERVER = "fl.example.org:8080"


@pytest.fixture
def environment(monkeypatch):
    """Sets proxy variables, and no others are set."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return lambda **variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


@contextlib.contextmanager
def answering(status, body=b"<html><title>Welcome to the guest network</title></html>", kind="text/html", **headers):
    """A proxy that answers every request so; its port, and the requests that it has had."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self):
            seen.append((self.command, self.path, self.headers.get("proxy-authorization")))
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_CONNECT = do_GET = do

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def failure(url):
    """What a client that registers there is told."""
    link = Link(url, "a")
    with contextlib.closing(link), pytest.raises(Unreachable) as told:
        link.register()
    return told.value


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("status", "remedy"), [(407, "as http://USER:PASSWORD@HOST:PORT"), (403, "ask whoever runs it")])
def test_a_proxy_that_refuses_is_named_with_its_variable_and_the_address(environment, scheme, status, remedy):
    with answering(status) as (port, _):
        environment(**{f"{scheme.upper()}_PROXY": f"http://127.0.0.1:{port}"})
        told = failure(f"{scheme}://{SERVER}")
    assert isinstance(told, Foreign)
    assert told.lasting
    for part in (f"http://127.0.0.1:{port}", f"{scheme.upper()}_PROXY", SERVER, str(status), remedy):
        assert part in str(told)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_does_not_reach_the_server_yet_is_waited_for(environment, scheme):
    with answering(503) as (port, _):
        environment(**{f"{scheme.upper()}_PROXY": f"http://127.0.0.1:{port}"})
        told = failure(f"{scheme}://{SERVER}")
    assert isinstance(told, Foreign)
    assert not told.lasting
    assert "503" in str(told)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_absent_proxy_is_named_with_its_variable_and_the_address(environment, scheme):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment(**{f"{scheme}_proxy": f"127.0.0.1:{port}"})  # without a scheme, as many write it
    told = str(failure(f"{scheme}://{SERVER}"))
    for part in (f"http://127.0.0.1:{port}", f"{scheme}_proxy", SERVER, "refuses connections", "add fl.example.org to NO_"):
        assert part in told


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, b"<html><title>Welcome to the guest network</title>", "text/html", "Welcome to the guest network"),
        (302, b"", "text/html", "points to 'https://login.example.org/?from=x'"),
        (200, b'{"ok": true}', "application/json", "application/json"),
        (503, b"<h1>Service\n unavailable</h1>", "text/html", "Service unavailable"),
        (404, b"no such page\x1b[2J", "text/plain", "no such page"),
    ],
)
def test_a_proxy_that_answers_for_somebody_else_is_named(environment, status, body, kind, words):
    with answering(status, body, kind, location="https://login.example.org/?from=x") as (port, _):
        environment(HTTP_PROXY=f"http://127.0.0.1:{port}")
        told = failure(f"http://{SERVER}")
    assert isinstance(told, Foreign)
    assert told.lasting == (status != 503)
    for part in (f"http://127.0.0.1:{port}", "HTTP_PROXY", words, str(status)):
        assert part in str(told)
    assert "\x1b" not in str(told)


def test_a_proxy_s_password_is_sent_and_in_no_word(environment, caplog):
    caplog.set_level("INFO", "umbel")
    with answering(407) as (port, seen):
        environment(HTTP_PROXY=f"http://ward:s%40cret@127.0.0.1:{port}")
        told = failure(f"http://{SERVER}")
    assert seen[0][2] == "Basic d2FyZDpzQGNyZXQ="  # ward:s@cret
    for text in (str(told), caplog.text):
        assert f"http://127.0.0.1:{port}" in text
        assert "ward" not in text
        assert "cret" not in text


@pytest.mark.parametrize(
    ("host", "bypass", "proxied"),
    [
        ("fl.example.org", "", True),
        ("fl.example.org", "example.org", False),
        ("fl.example.org", "other.org, .example.org", False),
        ("10.1.2.3", "10.0.0.0/8", False),
        ("11.1.2.3", "10.0.0.0/8", True),
        ("fd00::7", "fd00::/8", False),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("fl.example.org", "*", False),
    ],
)
def test_no_proxy_names_hosts_and_networks(environment, host, bypass, proxied):
    environment(HTTP_PROXY="http://proxy.example.org:3128", NO_PROXY=bypass)
    assert (forward_for("http", host, 8080) is not None) == proxied


@pytest.mark.parametrize("given", ["socks5://127.0.0.1:1080", "http://", "http://a b", "ftp://proxy:21"])
def test_a_variable_that_names_no_http_proxy_is_named(environment, given):
    environment(HTTP_PROXY=given)
    with pytest.raises(ValueError, match=r"HTTP_PROXY names .* add fl.example.org to NO_PROXY"):
        start_client(server_address=SERVER, client=NumPyClient())


def test_a_client_that_is_only_ever_answered_by_somebody_else_ends_with_his_name(environment, monkeypatch):
    monkeypatch.setattr(client_side, "WRONG", 0.3)
    with answering(200) as (port, seen):
        environment(HTTP_PROXY=f"http://127.0.0.1:{port}")
        with pytest.raises(ServerRefused, match=rf"http://127.0.0.1:{port}, which HTTP_PROXY names, answered 200"):
            start_client(server_address=SERVER, client=NumPyClient())
    assert len(seen) > 1  # it may have been passing


def test_a_variable_that_names_an_umbel_server_as_a_proxy_is_told_so(environment, caplog):
    listener = Listener("127.0.0.1:0")
    transport = HttpTransport(listener, "run", MemoryStore())
    environment(HTTP_PROXY=listener.url)
    told = pytest.raises(ServerRefused, match=rf"{listener.url}, which HTTP_PROXY names, is an Umbel server itself; corr")
    with contextlib.closing(Link(f"http://{SERVER}", "a")) as link, told:
        link.register()
    transport.close("", over=False)
    assert f"no proxy that leads to 'http://{SERVER}/v1/register'" in caplog.text


class Tunnels(socketserver.StreamRequestHandler):
    """A proxy that connects whoever has the password to `server.leads_to`, whatever host was asked for."""

    def handle(self):
        asked = iter(self.rfile.readline, b"\r\n")
        self.server.asked.append([line.strip().decode() for line in asked])
        if not any(line.lower() == "proxy-authorization: basic d2fyzdpzqgnyzxq=" for line in self.server.asked[-1]):
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.leads_to)) as far:
            back = threading.Thread(target=self.pump, args=(far, self.connection))
            back.start()
            self.pump(self.connection, far)
            back.join()

    @staticmethod
    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def test_tls_goes_through_a_proxy_to_the_server_itself(environment, tmp_path):
    pytest.importorskip("cryptography", reason="needs the extra security: TLS THROUGH PROXIES IS NOT TESTED HERE")
    from umbel.runtime.security.certificates import issue, make_authority
    from umbel.runtime.security.tls import client_context, server_context

    make_authority(tmp_path, days=1)
    pair = issue(tmp_path, "server", "fl.example.org", ["fl.example.org"], days=1, server=True)
    tls = server_context((tmp_path / "ca.pem", *pair), client_certificates=False, failed=lambda why: None)
    listener = Listener("127.0.0.1:0", tls=tls)
    transport = HttpTransport(listener, "run", MemoryStore())
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnels) as proxy:
        proxy.asked, proxy.leads_to = [], listener.port
        serving = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        serving.start()
        where = f"127.0.0.1:{proxy.server_address[1]}"
        try:
            environment(HTTPS_PROXY=f"http://{where}")
            refused = failure(f"https://{SERVER}")
            assert f"http://{where}, which HTTPS_PROXY names, refused to connect to {SERVER} with 407" in str(refused)
            environment(HTTPS_PROXY=f"http://ward:s%40cret@{where}")
            trusting = client_context(tmp_path / "ca.pem", None)
            with contextlib.closing(Link(f"https://{SERVER}", "a", tls=trusting)) as link:
                link.register()
                assert link.run == "run"
                link.leave()
        finally:
            proxy.shutdown()
            serving.join()
    transport.close("", over=False)
    assert [asked[0].split()[:2] for asked in proxy.asked] == [["CONNECT", SERVER]] * 2


def test_a_client_says_that_another_run_answers_now(caplog):
    first = Listener("127.0.0.1:0")
    transport = HttpTransport(first, "run-1", MemoryStore())
    with contextlib.closing(Link(first.url, "a")) as link:
        link.register()
        transport.close("", over=False)
        transport = HttpTransport(Listener(f"127.0.0.1:{first.port}"), "run-2", MemoryStore())
        with contextlib.suppress(Unreachable):  # the connection that was open
            link.register()
        link.register()
        transport.close("", over=False)
    assert caplog.text.count("is at another run now: run-2, no longer run-1") == 1


def test_max_wait_time_counts_where_a_port_takes_connections_and_stays_silent():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ServerUnreachable, match=r"no answer in time\) after 1 tries in 2\.\d s"):
            start_client(server_address=f"127.0.0.1:{silent.getsockname()[1]}", client=NumPyClient(), max_wait_time=2)
        assert 2 <= time.monotonic() - began < 4
