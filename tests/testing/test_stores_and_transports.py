"""Every store and every transport that Umbel has keeps the promises that its runs rely on; the checks find what does not."""

from __future__ import annotations

import contextlib
import threading

import pytest

from umbel.context import Context
from umbel.rounds.messages import Failure, FailureKind, Kind, Populated, Replied
from umbel.runtime.contents import FileContents
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.stores.base import Unit
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.stores.rounds import RoundStore
from umbel.runtime.stores.sql import SqlStore
from umbel.runtime.transports.http.client import Patience, serve
from umbel.runtime.transports.http.link import Link
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.server import HttpTransport
from umbel.runtime.transports.simulated.inline import InlineCrew
from umbel.runtime.transports.simulated.pieces import Work
from umbel.runtime.transports.simulated.states import States
from umbel.runtime.transports.simulated.transport import SimulatedTransport
from umbel.runtime.transports.simulated.virtual import VirtualTime
from umbel.testing import check_store, check_transport
from umbel.training import make_client

# ---- stores


def journal(folder, url=None):
    """Opens the journal of one run, again and again."""
    database = Database(url or f"sqlite:///{folder / 'runs.sqlite'}")
    if not database.runs():
        database.add("run", {})
    return SqlStore(database, "run", FileContents(folder / "run"))


def test_a_store_in_memory_is_one():
    check_store(MemoryStore)


def test_a_store_that_keeps_nothing_but_files_is_one(tmp_path):
    check_store(lambda: MemoryStore(FileContents(tmp_path)))


def test_a_journal_in_sqlite_is_a_store(tmp_path):
    check_store(lambda: journal(tmp_path))


def test_a_journal_in_postgresql_is_a_store(tmp_path, postgres):
    url = postgres.database()
    check_store(lambda: journal(tmp_path, url))


def test_a_simulation_s_store_is_one(tmp_path):
    check_store(lambda: RoundStore(journal(tmp_path), MemoryContents(), States()))


class Forgetful(MemoryStore):
    """A journal that counts whatever it was given."""

    unit = Unit.INPUT

    def __init__(self):
        super().__init__()
        self._written = set()

    def write(self, entries, snapshot=None):
        self._written |= {entry.event.task for entry in entries if isinstance(entry.event, Replied)}

    def accepted(self, task):
        return task in self._written


class Trusting(Forgetful):
    """A journal in which an update may count twice."""

    def write(self, entries, snapshot=None):
        self._written |= {entry.counted for entry in entries if entry.counted}


class Hasty(MemoryContents):
    """Contents that have their names too soon."""

    def create(self, name):
        writer = super().create(name)
        writer.commit()
        return writer


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Forgetful, "accepted\\(\\) is True for a reply that came too late"),
        (Trusting, "a second reply of the same task was written"),
        (lambda: MemoryStore(Hasty()), "a content has its name before it is committed"),
    ],
)
def test_a_store_that_breaks_a_promise_is_told_which(broken, why):
    with pytest.raises(AssertionError, match=why):
        check_store(broken)


# ---- transports


@contextlib.contextmanager
def inline(clients, contents, kind=SimulatedTransport, **keywords):
    made = {name: client.to_client() for name, client in clients.items()}
    everyone = Populated(0, tuple(made))
    crew = InlineCrew(Work(lambda context: made[context.node_id], 0, len(made), None), contents)
    transport = kind(everyone, crew, contents, states=States(), folds=False, singly=True, **keywords)
    transport.put(everyone)
    yield transport
    transport.close("", over=True)


@contextlib.contextmanager
def in_virtual_time(clients, contents):
    with inline(clients, contents, defers=True) as inside:
        yield VirtualTime(inside, lambda client, number: 1.0)


@contextlib.contextmanager
def over_http(clients, contents):
    listener = Listener("127.0.0.1:0")
    transport = HttpTransport(listener, "run", MemoryStore(contents))
    made = {name: make_client(client, Context(name)) for name, client in clients.items()}
    lives = [
        threading.Thread(target=serve, args=(Link(listener.url, name), client, Patience("here", None, None)))
        for name, client in made.items()
    ]
    for life in lives:
        life.start()
    try:
        yield transport
    finally:
        transport.close("checked", over=True)
        for life in lives:
            life.join(20)


@pytest.mark.parametrize("reach", [inline, in_virtual_time, over_http])
def test_every_transport_keeps_its_promises(reach):
    check_transport(reach)


class Twice(SimulatedTransport):
    """Tells of each answer twice."""

    def receive(self, timeout):
        event = super().receive(timeout)
        if event is not None and not isinstance(event, Populated):
            self.put(event)
        return event


class Deaf(SimulatedTransport):
    """Leaves questions between the rounds unanswered."""

    def ask(self, client, kind, parameters, config, timeout):
        assert kind is Kind.PROPERTIES
        return Failure(FailureKind.LATE, "nobody asks here")


class Stubborn(SimulatedTransport):
    """Sends an update that has been replaced by the parameters that were sent."""

    def receive(self, timeout):
        event = super().receive(timeout)
        for _, reply in getattr(event, "replies", ()):
            if reply.content is not None:
                self._contents.remove(reply.content)
                self._contents.link("model", reply.content)
        return event


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Twice, "is answered"),
        (Deaf, "a question is not answered"),
        (Stubborn, "does not hold what fit\\(\\) returned"),
    ],
)
def test_a_transport_that_breaks_a_promise_is_told_which(kind, why):
    with pytest.raises(AssertionError, match=why):
        check_transport(lambda clients, contents: inline(clients, contents, kind))
