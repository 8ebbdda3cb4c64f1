"""Requests without urllib3, to servers that answer in every way that HTTP has, and in some that it has not."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from umbel.runtime.transports.http.direct import Direct, Malformed, NotConnected
from umbel.runtime.transports.http.way import Waits

WAITS = Waits(5.0, 5.0)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nUmbel-Server: 1\r\n\r\nabc"


def read_request(connection):
    """Head and body of the next request; None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", 0)):
        body += connection.recv(65536)
    return head, body


@pytest.fixture
def serving():
    """`serving(*connections)`: a server that does one of these functions for each connection, and the way to it."""
    with contextlib.ExitStack() as closing:

        def begin(*connections):
            listener = closing.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                for handle in connections:
                    with listener.accept()[0] as connection, contextlib.suppress(OSError):
                        handle(connection)

            thread = threading.Thread(target=serve)
            thread.start()
            closing.callback(thread.join, 10)
            way = Direct(*listener.getsockname(), "server.example:80")
            closing.callback(way.clear)
            return way

        yield begin


def answering(*answers, seen=None):
    """A connection that answers one request after another."""

    def handle(connection):
        for answer in answers:
            request = read_request(connection)
            if seen is not None:
                seen.append(request)
            for piece in answer if isinstance(answer, list) else [answer]:
                connection.sendall(piece)

    return handle


def post(way, body=b"xy", **named):
    return way.send("POST", "/v1/next", body=body, headers={"accept": "a/b"}, timeout=WAITS, **named)


def test_requests_go_out_in_one_piece_one_after_another_on_one_connection(serving):
    seen = []
    way = serving(answering(OK, OK, seen=seen))
    for _ in range(2):
        answer = post(way)
        assert (answer.status, answer.data, answer.headers["umbel-server"]) == (200, b"abc", "1")
    head, body = seen[0]
    assert body == b"xy"
    assert head.split(b"\r\n") == [
        b"POST /v1/next HTTP/1.1",
        b"host: server.example:80",
        b"accept-encoding: identity",
        b"user-agent: umbel",
        b"accept: a/b",
        b"content-length: 2",
    ]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        [bytes([byte]) for byte in OK],
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        CHUNKED + b"2\r\nab\r\n1;what=ever\r\nc\r\n0\r\nTrailer: x\r\n\r\n",
        [CHUNKED, b"3", b"\r\n", b"abc\r", b"\n0\r\n", b"\r\n"],
    ],
    ids=["in crumbs", "after an interim one", "in chunks", "in chunks in crumbs"],
)
def test_an_answer_is_whole_however_it_comes_and_the_connection_lasts(serving, answer):
    way = serving(answering(answer, OK))
    assert post(way).data == b"abc"
    assert post(way).data == b"abc"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
    ],
    ids=["without a length", "in HTTP/1.0", "that says so"],
)
def test_an_answer_that_ends_its_connection_is_the_last_on_it(serving, answer):
    way = serving(answering(answer), answering(OK))
    assert post(way).data == b"abc"
    assert post(way).data == b"abc"


def test_an_answer_without_a_body_has_none(serving):
    way = serving(answering(b"HTTP/1.1 204 No Content\r\n\r\n", OK))
    assert post(way).data == b""
    assert post(way).data == b"abc"


def test_a_connection_that_ended_while_it_was_idle_is_not_used_again(serving):
    ended = threading.Event()

    def once(connection):
        answering(OK)(connection)
        connection.close()
        ended.set()

    way = serving(once, answering(OK))
    assert post(way).data == b"abc"
    assert ended.wait(5)
    assert post(way).data == b"abc"


def test_a_connection_on_which_more_came_than_was_asked_for_is_not_used_again(serving):
    way = serving(answering(OK + OK), answering(OK))
    assert post(way).data == b"abc"
    assert post(way).data == b"abc"


def test_a_body_is_sent_as_it_is_made(serving):
    seen = []
    way = serving(answering(OK, seen=seen))
    views = (memoryview(b"ab"), memoryview(b"cd"))
    answer = way.send("PUT", "/x", body=iter(views), headers={"content-length": "4"}, timeout=WAITS)
    assert answer.data == b"abc"
    assert seen[0][1] == b"abcd"


def test_whoever_refuses_a_body_before_it_has_come_is_heard(serving):
    def refuse(connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        while connection.recv(2**20):  # or the answer would be lost with the rest
            pass

    assert post(serving(refuse), body=bytes(2**22)).status == 413


def test_a_part_of_an_answer_can_be_read_and_the_rest_left(serving):
    way = serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef"), answering(OK))
    answer = post(way)
    out = bytearray(4)
    got = answer.readinto(memoryview(out))
    assert 0 < got <= 4
    assert b"abcdef".startswith(out[:got])
    answer.release_conn()  # of which the rest was not read: it is closed
    assert post(way).data == b"abc"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
        CHUNKED + b"many\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"5\r\nab",
    ],
)
def test_what_is_no_answer_or_a_part_of_one_is_an_error(serving, answer):
    with pytest.raises(OSError, match=r".") as raised:
        post(serving(answering(answer))).data  # noqa: B018  # reads it
    assert isinstance(raised.value, (Malformed, ConnectionError))


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(NotConnected):
        post(Direct(*address, "x"))


def test_a_name_that_cannot_be():
    with pytest.raises(socket.gaierror):
        post(Direct("a..b", 80, "x"))


def test_who_says_nothing_is_not_waited_for_longer_than_was_said(serving):
    done = threading.Event()
    way = serving(lambda connection: done.wait(10))
    with pytest.raises(TimeoutError):
        way.send("GET", "/", body=None, headers={}, timeout=Waits(5.0, 0.05))
    done.set()


def test_what_a_server_has_named_makes_no_second_request(serving):
    seen = []
    way = serving(answering(OK, seen=seen))
    with pytest.raises(ValueError, match="a line break where none can be"):
        way.send("GET", "/", body=None, headers={"umbel-session": "a\r\nb: c"}, timeout=WAITS)
    name = "x HTTP/1.1\r\nb: c\r\n\r\nGET /y"
    assert way.send("GET", f"/v1/contents/{name}", body=None, headers={}, timeout=WAITS).data == b"abc"
    assert seen[0][0].split(b"\r\n")[0] == b"GET /v1/contents/x%20HTTP/1.1%0D%0Ab:%20c%0D%0A%0D%0AGET%20/y HTTP/1.1"
