"""Whatever ends the listener's thread, or keeps it from doing what the run asked for, is said where the run waits."""

from __future__ import annotations

import asyncio
import queue
import threading
import time

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import ListenerFailed, StoreError
from umbel.runtime.transports.http.connections import Connections, Limits
from umbel.runtime.transports.http.link import Link
from umbel.runtime.transports.http.listener import Listener
from umbel.server import start_server
from umbel.server.strategy import FedAvg


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
        listeners[-1].start(None, Connections(Limits(), print), print, watch, said.put)
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


class Lost(FedAvg):
    def configure_fit(self, server_round, parameters, client_manager):
        raise LookupError("whom to ask?")


def soon(done):
    """Waits until `done()`."""
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        threading.Event().wait(0.02)


def test_a_run_that_cannot_go_on_gives_its_port_back(tmp_path):
    """In a notebook the process lives on, and would hold the port."""
    free = Listener("127.0.0.1:0")
    url, port, errors = free.url, free.port, []
    free.stop()

    def serve():
        strategy = Lost(min_available_clients=1, initial_parameters=ndarrays_to_parameters([np.zeros(3)]))
        try:
            start_server(server_address=f"127.0.0.1:{port}", strategy=strategy, store=tmp_path)
        except Exception as error:
            errors.append(error)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    soon(lambda: [*tmp_path.glob("*/journal.mark")])  # version 0 is in the journal
    client = Link(url, "a")
    client.register()
    client.close()
    server.join(60)
    for model in tmp_path.glob("*/model-*.safetensors"):
        model.unlink()
    server = threading.Thread(target=serve, daemon=True)
    server.start()
    server.join(60)
    assert [type(error) for error in errors] == [LookupError, StoreError]
    Listener(f"127.0.0.1:{port}").stop()
