"""The server's side of HTTP: before its loop has begun, and when requests come twice."""

from __future__ import annotations

import contextlib
import http.client
import math
import socket
import threading
import time
import zlib

import msgspec
import numpy as np
import pytest

from umbel.door import Door
from umbel.params import Params
from umbel.reports import Room
from umbel.rounds.messages import Failed, Failure, FailureKind, Joined, Kind, Left, Replied, Reply, Task, Verdict
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.http.client import Patience, serve
from umbel.runtime.transports.http.link import Link, Unknown, Unreachable
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.protocol import GO, SESSION, FailureHead, Offer, Outcome, decode, encode
from umbel.runtime.transports.http.server import HttpTransport
from umbel.training import NumPyClient
from umbel.wire import encode_header

TASK = Task("run.1.evaluate.0.0", 1, Kind.EVALUATE, 0, 1, "a", None, {})


@pytest.fixture
def transport():
    """A server that has been killed while client "a" worked on a task, and has just started again."""
    listener = Listener("127.0.0.1:0")
    transport = HttpTransport(listener, "run", MemoryStore(), known=["a"], pending=[TASK.id])
    yield transport, Link(listener.url, "a")
    transport.close("", over=False)


def test_an_answer_that_comes_before_the_task_is_dispatched_again_is_told_to_wait_and_counts(transport):
    server, client = transport
    client.register()
    with pytest.raises(Unreachable, match="the server is starting; try again"):
        client.offer(TASK.id, Offer(num_examples=3))

    server.dispatch(TASK, {}, Door(Kind.EVALUATE, None, 10**9, 10**9))
    outcome = []
    offering = threading.Thread(target=lambda: outcome.append(client.offer(TASK.id, Offer(num_examples=3))))
    offering.start()
    event = server.receive(10)
    assert isinstance(event, Replied)
    assert (event.task, event.reply.num_examples) == (TASK.id, 3)
    server.settle(TASK.id, Verdict.ACCEPTED, "")
    offering.join(10)
    assert outcome[0].verdict == Verdict.ACCEPTED
    client.close()


def test_a_client_is_not_told_that_a_task_is_cancelled_which_is_about_to_be_dispatched_again(transport):
    server, client = transport
    client.register()
    polled = []
    polling = threading.Thread(target=lambda: polled.append(client.next([TASK.id])))
    polling.start()
    polling.join(0.3)
    assert polled == []  # there is nothing to tell
    server.dispatch(TASK, {}, Door(Kind.EVALUATE, None, 10**9, 10**9))
    server.cancel(TASK)
    polling.join(10)
    assert polled[0].cancelled == [TASK.id]
    client.close()


def test_a_poll_that_is_held_while_its_client_says_goodbye_is_ended_and_not_complained_of(transport, caplog):
    server, client = transport
    client.register()
    session, other = client._session, Link(client._url, "a")
    other._session = session
    ended = []

    def poll():
        with pytest.raises(Unknown):
            client.next([])
        ended.append(True)

    polling = threading.Thread(target=poll)
    polling.start()
    until = time.monotonic() + 10
    while not server._sessions.of(session).polls:
        assert time.monotonic() < until
    other.leave()
    polling.join(10)
    assert ended
    assert server.receive(1) == Left("a", "it said goodbye")
    assert "unknown session" not in caplog.text
    with pytest.raises(Unknown):
        client.next([])
    assert "unknown session" in caplog.text  # this one does not know that it is over
    client.close()
    other.close()


def test_a_client_that_is_known_does_not_join_again(transport):
    server, client = transport
    client.register()
    assert server.receive(0.1) != Joined("a")
    client.close()


def test_a_failure_s_words_are_such_that_any_database_takes_them(transport):
    server, client = transport
    client.register()
    server.dispatch(TASK, {}, Door(Kind.EVALUATE, None, 10**9, 10**9))
    told = Offer(failure=FailureHead("raised", "a\0b", "line 1\0"))
    telling = threading.Thread(target=lambda: client.offer(TASK.id, told))
    telling.start()
    assert server.receive(10) == Failed(TASK.id, Failure(FailureKind.RAISED, "a\\0b", "line 1\\0"))
    server.settle(TASK.id, Verdict.NOTED, "")
    telling.join(10)
    client.close()


FIT = Task("run.1.fit.0.0", 1, Kind.FIT, 0, 1, "a", None, {})


class Part:
    """A PUT of the bytes from `offset` on: when this is made, the server waits for them."""

    def __init__(self, link, offset, size, *, of="data"):
        host, port = link._url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), 20)
        head = f"PUT /v1/tasks/{FIT.id}/{of}/{offset} HTTP/1.1\r\nhost: {host}\r\n{SESSION}: {link._session}\r\n"
        self._socket.sendall(f"{head}content-length: {size}\r\nexpect: 100-continue\r\n\r\n".encode())
        assert self._socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"

    def outcome(self, data):
        self._socket.sendall(data)
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        assert response.status == 200
        outcome = decode(response.read(), Outcome)
        self._socket.close()
        return outcome


def test_an_upload_counts_once_though_a_part_of_it_comes_twice_at_the_same_time(transport):
    server, client = transport
    client.register()
    params = Params.of([np.arange(1000.0)])
    data = params.buffer.tobytes()
    server.dispatch(FIT, {}, Door(Kind.FIT, params.schema, 10**9, 10**9))
    offer = Offer(1, header=encode_header(params.schema), size=len(data))
    assert client.offer(FIT.id, offer) == Outcome(GO)

    late, first = Part(client, 0, len(data)), Part(client, 0, 3000)
    assert first.outcome(data[:3000]) == Outcome(GO, offset=3000)
    assert late.outcome(data) == Outcome(GO, "begun anew", 3000)
    assert Part(client, 3000, len(data) - 3000).outcome(data[3000:]) == Outcome(GO, offset=len(data))

    committing = threading.Thread(target=lambda: client.commit(FIT.id, zlib.crc32(data), b""))
    committing.start()
    event = server.receive(10)
    assert isinstance(event, Replied), event
    server.settle(FIT.id, Verdict.ACCEPTED, "")
    committing.join(10)
    client.close()


def test_nothing_is_kept_of_an_offer_whose_task_was_taken_back_while_a_piece_of_it_came(tmp_path):
    listener = Listener("127.0.0.1:0")
    server = HttpTransport(listener, "run", MemoryStore(FileContents(tmp_path)), known=["a"])
    client = Link(listener.url, "a")
    client.register()
    server.dispatch(FIT, {}, Door(Kind.FIT, None, 10**9, 10**9))
    assert [task.id for task in client.next([]).tasks] == [FIT.id]

    piece = Part(client, 0, 3000, of="offer")
    server.cancel(FIT)
    assert client.next([FIT.id]).cancelled == [FIT.id]
    assert piece.outcome(bytes(3000)).verdict == Verdict.STALE
    assert list(tmp_path.iterdir()) == []
    client.close()
    server.close("", over=False)


def test_numbers_that_are_not_finite_and_metrics_beyond_the_room_do_not_cost_an_update(transport, caplog):
    """The large update is offered twice: a NaN is like no other, and yet it is the same offer."""
    server, client = transport
    client.register()
    params = Params.of([np.arange(1000.0)])
    data = params.buffer.tobytes()
    server.dispatch(FIT, {}, Door(Kind.FIT, params.schema, 10**9, 10**9, Room(metrics=2)))
    metrics = {"auc": math.nan, "f1": 0.5, "third": 1.0, "fourth": 2.0}
    offer = Offer(1, math.inf, msgspec.Raw(encode(metrics)), header=encode_header(params.schema), size=len(data), surplus=5)
    assert client.offer(FIT.id, offer) == Outcome(GO)
    assert client.send(FIT.id, 0, 4000, [memoryview(data[:4000])]) == Outcome(GO, offset=4000)
    assert client.offer(FIT.id, offer) == Outcome(GO, offset=4000)
    client.send(FIT.id, 4000, len(data) - 4000, [memoryview(data[4000:])])
    committing = threading.Thread(target=lambda: client.commit(FIT.id, zlib.crc32(data), b""))
    committing.start()
    event = server.receive(10)
    server.settle(FIT.id, Verdict.ACCEPTED, "")
    committing.join(10)
    assert isinstance(event, Replied)
    assert str(event.reply.metrics) == "{'auc': nan, 'f1': 0.5}"
    (line,) = [record.getMessage() for record in caplog.records if "room" in record.getMessage()]
    assert line.startswith("fit: 7 metrics of client a are more than there is room for and do not count, the rest does")
    client.close()


@pytest.mark.parametrize("size", [2**20, 2**22])
def test_metrics_that_are_too_long_to_be_read_do_not_cost_an_update(transport, size):
    """`size` empty maps would take 70 times their bytes."""
    server, client = transport
    client.register()
    server.dispatch(TASK, {}, Door(Kind.EVALUATE, None, 10**9, 10**9, Room(size=2**16)))
    bomb = b"\x81\xa1x\xdd" + size.to_bytes(4, "big") + b"\x80" * size
    offering = threading.Thread(target=lambda: client.offer(TASK.id, Offer(3, 0.5, msgspec.Raw(bomb))))
    offering.start()
    event = server.receive(10)
    assert event == Replied(TASK.id, Reply(3, 0.5))
    server.settle(TASK.id, Verdict.ACCEPTED, "")
    offering.join(10)
    client.close()


class Reports(NumPyClient):
    def evaluate(self, parameters, config):
        return math.nan, 3, {"big": bytes(5 * 2**20), "a": 1.0, "b": 2.0, "c": 3.0}


def test_a_client_sends_what_there_is_room_for_and_says_what_is_left_out(transport, caplog):
    server, client = transport
    serving = threading.Thread(target=lambda: serve(client, Reports().to_client(), Patience("here", 3, 20.0)))
    server.dispatch(TASK, {}, Door(Kind.EVALUATE, None, 10**9, 10**9, Room(metrics=2)))
    serving.start()
    event = server.receive(20)
    assert isinstance(event, Replied), event
    assert event.reply.metrics == {"a": 1.0, "b": 2.0}
    assert math.isnan(event.reply.loss)
    server.settle(TASK.id, Verdict.ACCEPTED, "")
    server.close("all done", over=True)
    serving.join(20)
    lines = [record.getMessage() for record in caplog.records]
    room = "the server has room for 2 metrics of 1,048,576 bytes; 2 are left out, the first of them 'big'"
    assert f"evaluate of round 1: {room}" in lines
    assert any(line.startswith("evaluate: 2 metrics of client a are more than there is room for") for line in lines)


def test_a_message_that_turns_out_to_be_no_http_is_answered_once(transport):
    _, link = transport
    host, port = link._url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as end:
        end.sendall(f"POST / HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n".encode())
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while more := end.recv(65536):
                said += more
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 400 ")
