"""More than a server can hold, from real sockets: its memory stays bounded, and honest clients finish as if nothing were."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time

import msgspec
import psutil
import pytest
from federations import wait_for
from measuring import MIB, no_more_than, rss

pytestmark = pytest.mark.system

TERABYTE = 2**40


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def sockets():
    """`sockets(port, number)`: that many connections, closed when the test ends."""
    opened = []

    def connect(port, number):
        for _ in range(number):
            opened.append(socket.create_connection(("127.0.0.1", port), 10))
        return opened[-number:]

    yield connect
    for connection in opened:
        connection.close()


def ask(connection, path, message, session=""):
    body = msgspec.msgpack.encode(message)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\numbel-session: {session}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def heard(connection, deadline=5.0):
    """What the server says on a connection, until it closes it."""
    connection.settimeout(deadline)
    said = b""
    with contextlib.suppress(ConnectionError):
        while block := connection.recv(65536):
            said += block
    return said


def test_ten_thousand_connections_that_say_nothing(federation, reference, strange, sockets, many_files):
    number = min(10_000, many_files - 200)
    server = federation.server()
    server.says("Waiting for clients")
    with no_more_than(server, 100 * MIB):
        federation.client("a", hold=["fit.2"])
        federation.client("b")
        federation.reached("a", "fit.2")  # in the middle of a round
        begun = time.monotonic()
        crowd = sockets(federation.port, number)
        print(f"{number} connections in {time.monotonic() - begun:.1f} s")
        assert psutil.Process(server.pid).num_fds() < 1_200
        latecomer = strange(federation.port, "late")  # somebody new gets in all the same
        latecomer.register()
        latecomer.leave()
        federation.open("a", "fit.2")
        for connection in crowd:
            connection.close()
        server.says("Run over")
    federation.all_end()
    assert "127.0.0.1: more than 1,024 connections that no client uses" in server.text
    assert "client a left: its connection broke" not in server.text
    assert federation.model() == reference()


def with_few_files(arguments, folder, environment, log):
    """Starts a Python program that may open 512 files, as in many containers."""
    with log.open("w") as words:
        command = ["sh", "-c", 'ulimit -n 512 && exec "$@"', "sh", sys.executable, *arguments]
        return subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=words, stderr=words
        )


def test_connections_that_say_nothing_take_no_file_that_the_server_needs(federations, reference, sockets):
    federation = federations(start=with_few_files)
    server = federation.server(rounds=1)
    clients = federation.clients("a", "b", hold=["fit.1"])
    for name in "ab":
        federation.reached(name, "fit.1")
    sockets(federation.port, 700)
    for name in "ab":
        federation.open(name, "fit.1")
    assert [program.ends() for program in (server, *clients)] == [0, 0, 0]
    assert "127.0.0.1: more than 256 connections in all" in server.text
    assert "Traceback" not in server.text
    assert federation.model() == reference(rounds=1)


def test_tls_handshakes_that_stand_still(federation, reference, sockets, many_files):
    certificates = pytest.importorskip("umbel.runtime.security.certificates", reason="needs the extra security")
    pytest.importorskip("cryptography", reason="needs the extra security")
    certificates.make_authority(federation.folder, days=1)
    hosts = ["localhost", "127.0.0.1"]
    certificates.issue(federation.folder, "server", "localhost", hosts, days=1, server=True)
    ca, certificate, key = (str(federation.folder / name) for name in ("ca.pem", "server.pem", "server.key"))
    server = federation.server(certificates=[ca, certificate, key])
    server.says("Waiting for clients")
    federation.client("a", root_certificates=ca, hold=["fit.2"])
    federation.client("b", root_certificates=ca)
    federation.reached("a", "fit.2")
    with no_more_than(server, 200 * MIB):
        crowd = sockets(federation.port, min(4_000, many_files - 200))
        server.says("TLS failed: 2,048 handshakes are under way; one more is refused")
        federation.open("a", "fit.2")  # whoever is in stays in
        server.says("Run over")
        for connection in crowd:
            connection.close()
    federation.all_end()
    assert federation.model() == reference()


@pytest.mark.slow
def test_a_hundred_slow_lorises(federation, reference, sockets):
    """Half a head, half a registration, nothing at all, and never a whole request: each is told, and closed, in time."""
    server = federation.server()
    server.says("Waiting for clients")
    federation.client("a", hold=["fit.3"])
    slow = sockets(federation.port, 100)
    begun = time.monotonic()
    for connection in slow[:40]:
        connection.sendall(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ncontent-le")
    for connection in slow[40:80]:
        connection.sendall(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n\x82")
    federation.client("b")  # meanwhile others come and train
    federation.reached("a", "fit.3")
    while time.monotonic() - begun < 8.0:  # two go on drop by drop: that buys them no time
        for connection in (slow[0], slow[79]):
            connection.sendall(b"x")
        threading.Event().wait(0.5)
    for connection in slow[:80]:
        said = heard(connection, 20)
        assert said.startswith(b"HTTP/1.1 408 Request Timeout"), said
        assert b"no whole request within 10 s" in said
    for connection in slow[80:]:
        assert heard(connection) == b""
    assert 9 < time.monotonic() - begun < 15
    federation.open("a", "fit.3")
    assert server.ends() == 0
    federation.all_end()
    assert "127.0.0.1: no whole request within 10 s" in server.text
    assert federation.model() == reference()


ANNOUNCED = {
    "a registration": ("POST", "/v1/register", 413, b"longer than 4096 bytes"),
    "a poll": ("POST", "/v1/next", 413, b"longer than 12288 bytes"),
    "an offer": ("POST", "/v1/tasks/t/reply", 413, b"the message is longer than"),
    "a part": ("PUT", "/v1/tasks/t/data/0", 401, b"unknown session"),
    "a commit": ("POST", "/v1/tasks/t/commit", 413, b"longer than 4096 bytes"),
    "a goodbye": ("POST", "/v1/leave", 413, b"longer than 4096 bytes"),
    "a greeting": ("GET", "/", 413, b"longer than 0 bytes"),
    "a download": ("GET", "/v1/contents/x", 413, b"longer than 0 bytes"),
    "nothing that is known": ("POST", "/v2", 404, b"nothing that this server knows"),
}


@pytest.mark.slow
def test_a_terabyte_that_is_announced_is_refused_before_it_is_read(federation, strange, sockets):
    server = federation.server()
    server.says("Waiting for clients")
    with no_more_than(server, 32 * MIB):
        for case, (method, path, status, words) in ANNOUNCED.items():
            connection = sockets(federation.port, 1)[0]
            connection.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {TERABYTE}\r\n\r\n".encode())
            said = b""
            while words not in said:  # before a single byte of the body
                said += connection.recv(65536)
            assert said.startswith(b"HTTP/1.1 %d" % status), (case, said)
        data, sent = bytes(MIB), 0  # and whoever sends it all the same is cut off
        with contextlib.suppress(ConnectionError):
            while sent < 400 * MIB:
                connection.sendall(data)
                sent += len(data)
        assert sent < 100 * MIB, sent
        chunked = sockets(federation.port, 1)[0]
        chunked.sendall(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                chunked.sendall(b"100000\r\n" + bytes(MIB) + b"\r\n")
    assert server.alive


def test_messages_that_grow_when_they_are_read(federation, strange):
    """Small messages that a careless decoder turns into gigabytes."""
    server = federation.server(rounds=1, clients=2, central=False)
    server.says("Waiting for clients")
    bomber, other = strange(federation.port, "m"), strange(federation.port, "n")
    bomber.register()
    other.register()
    bomber.take_task()
    other.take_task()
    many = 15 * MIB
    lists = b'{"0":[' + b"[]," * 5 * MIB
    bombs = {
        "metrics: 15 million empty maps": b"\x81\xa7metrics\x81\xa1m\xdd" + many.to_bytes(4, "big") + b"\x80" * many,
        "metrics: 3 million names": b"\x81\xa7metrics\xdf"
        + (3 * MIB).to_bytes(4, "big")
        + b"".join(b"\xa3%c%c%c\xc0" % (i & 127, i >> 7 & 127, i >> 14 & 127) for i in range(3 * MIB)),
        "tasks that it has": b"\x81\xa4have\xdd" + many.to_bytes(4, "big") + b"\xa0" * many,
        "2^32 entries announced": b"\x81\xa7metrics\xdf\xff\xff\xff\xff",
        "2^32 bytes announced": b"\x81\xa6header\xc6\xff\xff\xff\xff",
        "a header of five million lists": bomber.offer(header=len(lists).to_bytes(8, "little") + lists),
    }
    for case, bomb in bombs.items():
        with no_more_than(server, 400 * MIB):
            answer = bomber.reply(bomb)
        assert answer.status in (200, 400), (case, answer)
        assert answer.verdict in ("", "rejected", "already accepted", "stale"), (case, answer)
    assert server.alive
    assert rss(server) < 600 * MIB


def test_a_client_that_is_refused_again_and_again_is_in_quarantine(federation, reference, strange):
    server = federation.server(rounds=2)
    server.says("Waiting for clients")
    offender = strange(federation.port, "m")
    offender.register()
    server.says("(1 available)")
    answers = [offender.request("POST", "/v1/next", b"\xc1") for _ in range(20)]
    assert {answer.status for answer in answers} == {400}
    assert "m is in quarantine for 60 s: 20 of its requests were refused within 60 s" in answers[-1].why
    assert offender.request("POST", "/v1/next", {"have": []}).status == 401
    again = offender.request("POST", "/v1/register", {"version": 1, "client_id": "m"})
    assert again.status == 429
    assert "client m is in quarantine for" in again.why
    assert "s more: 20 of its requests were refused" in again.why
    assert "the last one because not a Poll message" in again.why
    server.says("client m left: in quarantine for 60 s: 20 of its requests were refused within 60 s")
    federation.clients("a", "b")
    server.says("Run over")
    federation.all_end()
    assert federation.model() == reference(rounds=2)


def test_an_umbel_client_in_quarantine_reads_why_and_waits(federation, strange):
    server = federation.server()
    server.says("Waiting for clients")
    offender = strange(federation.port, "a")
    offender.register()
    for _ in range(20):
        offender.request("POST", "/v1/next", b"\xc1")
    client = federation.client("a")
    client.says("s more: 20 of its requests were refused within 60 s")
    assert client.alive


def test_one_client_has_so_many_connections_and_no_more(federation, strange, sockets):
    server = federation.server()
    server.says("Waiting for clients")
    greedy = strange(federation.port, "m")
    greedy.register()
    polls = sockets(federation.port, 40)
    for connection in polls:
        ask(connection, "/v1/next", {"have": []}, greedy.session)
    refused = wait_for(lambda: server.text.count("client m has 32 connections open") >= 9, 5, "nine are refused")
    assert refused


def test_a_flood_of_refusals_does_not_fill_the_log(federation, sockets, strange):
    server = federation.server()
    server.says("Waiting for clients")
    (connection,) = sockets(federation.port, 1)
    for _ in range(900):
        connection.sendall(b"GET /v9 HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.recv(65536)
    assert server.text.count("refused GET") < 40
    assert strange(federation.port, "m").request("GET", "/").status == 200
