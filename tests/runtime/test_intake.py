"""HTTP on one connection, without a socket: what comes is parsed and answered in order, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest

from umbel.runtime.transports.http.body import Disconnected
from umbel.runtime.transports.http.connections import Connections, Limits
from umbel.runtime.transports.http.framing import MAX_AHEAD
from umbel.runtime.transports.http.intake import AHEAD, Intake
from umbel.runtime.transports.http.requests import Response

PEER = ("192.0.2.1", 4711)


class Wire(asyncio.Transport):
    """What the server has written, and whether it reads."""

    def __init__(self):
        super().__init__({"peername": PEER})
        self.written, self.reads, self.closing = [], True, False

    def write(self, data):
        self.written.append(bytes(data))

    def close(self):
        self.closing = True

    abort = close

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        self.reads = False

    def resume_reading(self):
        self.reads = True

    @property
    def answers(self):
        return b"".join(self.written)


async def echo(request):
    body = b""
    while chunk := await request.body.read():
        body += chunk
    return Response(200, {}, f"{request.method} {request.path} ".encode() + body)


def talk(steps, app=echo):
    """The wire after these steps: bytes that come, or functions of the connection; in between, everything happens."""

    async def main():
        wire, said = Wire(), []
        intake = Intake(app, Connections(Limits(), lambda *line: said.append(line)), lambda *_: None, set())
        intake.connection_made(wire)
        for step in steps:
            if isinstance(step, bytes):
                intake.data_received(step)
            else:
                step(intake)
            for _ in range(20):
                await asyncio.sleep(0)
        wire.said = said
        return wire

    return asyncio.run(main())


def ask(method, path, body=b"", *fields):
    lines = [f"{method} {path} HTTP/1.1", "host: x", *fields]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def bodies(wire):
    """The bodies of the answers, each of which is one piece with its head."""
    return [each.partition(b"\r\n\r\n")[2] for each in wire.written]


def test_an_answer_is_one_piece_and_the_connection_stays():
    wire = talk([ask("POST", "/a?b=c", b"body"), ask("GET", "/caf%C3%A9")])
    assert bodies(wire) == [b"POST /a body", "GET /café ".encode()]
    assert not wire.closing


@pytest.mark.parametrize("size", [1, 3, 50])
def test_it_does_not_matter_in_which_pieces_it_comes(size):
    data = ask("POST", "/a", b"0123456789") + ask("GET", "/b")
    wire = talk([data[begin : begin + size] for begin in range(0, len(data), size)])
    assert bodies(wire) == [b"POST /a 0123456789", b"GET /b "]


def test_requests_that_come_together_are_answered_in_order():
    wire = talk([b"".join(ask("POST", f"/{number}", b"x" * number) for number in range(5))])
    assert [body.split()[1] for body in bodies(wire)] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert wire.reads


def test_while_many_wait_no_more_are_read():
    free = asyncio.Event()

    async def slow(request):
        await free.wait()
        return await echo(request)

    seen = []
    many = [ask("GET", f"/{number}") for number in range(3 * MAX_AHEAD)]
    wire = talk([b"".join(many), lambda intake: seen.append(intake._transport.reads), lambda _: free.set(), b""], slow)
    assert seen == [False]
    assert [body.split()[1] for body in bodies(wire)] == [f"/{number}".encode() for number in range(3 * MAX_AHEAD)]
    assert wire.reads


def test_chunks_are_a_body():
    head = b"PUT /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert bodies(talk([head + b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"])) == [b"PUT /a abcde"]


def test_the_client_is_told_to_go_on_once_its_body_is_wanted():
    wire = talk([ask("PUT", "/a", b"abc", "expect: 100-continue")[:-3], b"abc"])
    assert wire.written[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert bodies(wire)[1] == b"PUT /a abc"

    async def refuses(request):
        return Response(413, {})

    wire = talk([ask("PUT", "/a", b"abc", "expect: 100-continue")[:-3]], refuses)
    assert wire.answers.startswith(b"HTTP/1.1 413 ")


def test_nothing_more_is_read_while_nobody_takes_what_has_come():
    wanted, seen = asyncio.Event(), []

    async def later(request):
        await wanted.wait()
        return await echo(request)

    half = AHEAD // 2 + 1000
    data = ask("PUT", "/a", bytes(4 * half))
    steps = [data[: 2 * half], lambda intake: seen.append(intake._transport.reads), lambda _: wanted.set(), data[2 * half :]]
    wire = talk(steps, later)
    assert seen == [False]
    assert wire.answers.partition(b"\r\n\r\n")[2] == b"PUT /a " + bytes(4 * half)
    assert wire.reads


def test_a_head_is_answered_without_a_body():
    (answer,) = talk([ask("HEAD", "/a")]).written
    assert answer.endswith(b"content-length: 8\r\n\r\n")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", ask("GET", "/", b"", "connection: close")])
def test_the_last_answer_says_so(data):
    wire = talk([data])
    assert b"\r\nconnection: close\r\n" in wire.answers
    assert wire.closing


def test_an_answer_goes_on_only_as_its_reader_does():
    made, seen = [], []

    async def blocks():
        for number in range(4):
            made.append(number)
            yield b"%d" % number

    async def streams(_):
        return Response(200, {"content-length": "4"}, blocks())

    steps = [lambda intake: intake.pause_writing(), ask("GET", "/"), lambda _: seen.append([*made])]
    wire = talk([*steps, lambda intake: intake.resume_writing()], streams)
    assert seen == [[]]
    assert wire.answers.endswith(b"\r\n\r\n0123")
    wire = talk([ask("GET", "/"), *steps[:1], ask("GET", "/"), lambda intake: intake.connection_lost(None)], streams)
    assert wire.answers.count(b"HTTP/1.1 200 OK") == 1


def test_what_ends_in_the_middle_is_told_and_not_answered():
    told = []

    async def reads(request):
        try:
            return await echo(request)
        except Disconnected:
            told.append(request.path)
            return Response(400, {})

    wire = talk([ask("PUT", "/a", b"abc")[:-1], lambda intake: intake.connection_lost(None)], reads)
    assert told == ["/a"]
    assert wire.written == []


def test_an_error_of_the_server_is_an_answer(caplog):
    async def broken(_):
        raise LookupError("which one?")

    wire = talk([ask("GET", "/a")], broken)
    assert wire.answers.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert wire.closing
    assert "LookupError: which one?" in caplog.text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), b"bytes that are no HTTP request"),
        (ask("GET", "/", b"", "connection: upgrade", "upgrade: websocket"), b"a request for another protocol than HTTP/1.1"),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", b"a request for another protocol than HTTP/1.1"),
        (ask("GET", "/", b"", *["a: b"] * 200), b"a head of more than 100 fields"),
        (ask("POST", "/", b"", "transfer-encoding: chunked") + b"0\r\na: b\r\n\r\n", b"fields after a body"),
        (ask("POST", "/", b"ab", "content-length: 3"), b"bytes that are no HTTP request"),
        (ask("POST", "/", b"ab", "transfer-encoding: chunked"), b"bytes that are no HTTP request"),
    ],
)
def test_what_is_refused_hears_why_once(data, why):
    wire = talk([data, ask("GET", "/next")])
    assert wire.answers.startswith(b"HTTP/1.1 400 ")
    assert why in wire.answers
    assert wire.answers.count(b"HTTP/1.1 400 ") == len(wire.written) == 1
    assert len(wire.said) == 1


def test_an_end_waits_for_the_answer_that_is_under_way():
    free = asyncio.Event()

    async def slow(_):
        await free.wait()
        return Response(204, {})

    assert talk([lambda intake: intake.end()]).closing
    seen = []
    look = lambda intake: seen.append(intake._transport.closing)  # noqa: E731
    wire = talk([ask("GET", "/"), lambda intake: intake.end(), look, lambda _: free.set()], slow)
    assert seen == [False]
    assert b"connection: close" in wire.answers
    assert wire.closing


@pytest.mark.parametrize("why", ["it ends", "it is refused"])
def test_a_connection_that_ends_in_the_middle_of_a_body_is_freed_at_once(why):
    async def take(request):
        with contextlib.suppress(Disconnected):
            while await request.body.read():
                pass
        return Response(200, {}, b"")

    async def main():
        gc.collect()
        gc.disable()  # what TLS keeps for a connection, 256 KiB, must not wait for it
        try:
            intake = Intake(take, Connections(Limits(), lambda *_: None), lambda *_: None, set())
            intake.connection_made(Wire())
            intake.data_received(b"PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n")
            await asyncio.sleep(0)
            if why == "it is refused":
                intake.data_received(b"no chunk\r\n")
            intake.connection_lost(None)
            there = weakref.ref(intake)
            del intake
            for _ in range(20):
                await asyncio.sleep(0)
            if why == "it ends":
                assert there() is None
            else:
                await until(lambda: there() is None)
        finally:
            gc.enable()

    asyncio.run(main())


async def until(reached, deadline=5.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while not reached():
        assert loop.time() < end
        await asyncio.sleep(0.01)
