"""The server's side of HTTP, between the moment when a resumed server listens and the one when its loop has begun."""

from __future__ import annotations

import threading

import pytest

from umbel.door import Door
from umbel.rounds.messages import Joined, Kind, Replied, Task, Verdict
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.http.link import Link, Unreachable
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.protocol import Offer
from umbel.runtime.transports.http.server import HttpTransport

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
