"""The server's side of HTTP: before its loop has begun, and when requests come twice."""

from __future__ import annotations

import http.client
import socket
import threading
import zlib

import numpy as np
import pytest

from umbel.door import Door
from umbel.params import Params
from umbel.rounds.messages import Failed, Failure, FailureKind, Joined, Kind, Replied, Task, Verdict
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.http.link import Link, Unreachable
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.protocol import GO, SESSION, FailureHead, Offer, Outcome, decode
from umbel.runtime.transports.http.server import HttpTransport
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

    server.dispatch(TASK, None, Door(Kind.EVALUATE, None, 10**9, 10**9))
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
    server.dispatch(TASK, None, Door(Kind.EVALUATE, None, 10**9, 10**9))
    server.cancel(TASK)
    polling.join(10)
    assert polled[0].cancelled == [TASK.id]
    client.close()


def test_a_client_that_is_known_does_not_join_again(transport):
    server, client = transport
    client.register()
    assert server.receive(0.1) != Joined("a")
    client.close()


def test_a_failure_s_words_are_such_that_any_database_takes_them(transport):
    server, client = transport
    client.register()
    server.dispatch(TASK, None, Door(Kind.EVALUATE, None, 10**9, 10**9))
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

    def __init__(self, link, offset, size):
        host, port = link._url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), 20)
        head = f"PUT /v1/tasks/{FIT.id}/data/{offset} HTTP/1.1\r\nhost: {host}\r\n{SESSION}: {link._session}\r\n"
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
    server.dispatch(FIT, None, Door(Kind.FIT, params.schema, 10**9, 10**9))
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
