"""Whatever ends the listener's thread, or keeps it from doing what the run asked for, is said where the run waits."""

from __future__ import annotations

import asyncio
import queue

import pytest

from umbel.errors import ListenerFailed
from umbel.runtime.transports.http.connections import Connections, Limits
from umbel.runtime.transports.http.listener import Listener


async def forever():
    await asyncio.Event().wait()


async def breaks():
    raise LookupError("who was it?")


async def ends():
    return


@pytest.fixture
def started():
    listeners = []

    def start(watch):
        said = queue.SimpleQueue()
        listeners.append(Listener("127.0.0.1:0"))
        listeners[-1].start(None, Connections(Limits(), print), print, watch, 10.0, said.put)
        return listeners[-1], said

    yield start
    for listener in listeners:
        listener.stop()


@pytest.mark.parametrize(("watch", "words"), [(breaks, "LookupError: who was it?"), (ends, "it has come to an end")])
def test_what_ends_the_thread_is_said(started, watch, words):
    _, said = started(watch)
    error = said.get(timeout=30)
    assert isinstance(error, ListenerFailed)
    assert str(error) == f"the thread that serves the network has ended ({words}); the run is kept"


def test_what_a_call_raises_is_said(started):
    listener, said = started(forever)

    def broken(task):
        raise MemoryError(task)

    listener.call(broken, "a task")
    assert "MemoryError: a task" in str(said.get(timeout=30))


def test_an_end_that_is_wanted_is_not_said(started):
    listener, said = started(forever)
    listener.stop()
    assert said.empty()
    listener.call(print, "nobody hears this any more")
