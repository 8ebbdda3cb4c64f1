"""Every crew that Umbel has keeps the promises that simulations rely on; the check finds one that does not."""

from __future__ import annotations

import contextlib
import queue

import pytest

from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.transports.simulated.auto import AutoCrew
from umbel.runtime.transports.simulated.crew import Began, Died, Finished, RemoteCrew, Tried, Woken
from umbel.runtime.transports.simulated.inline import InlineCrew
from umbel.runtime.transports.simulated.processes import ProcessYard
from umbel.runtime.transports.simulated.shared import SharedContents
from umbel.runtime.transports.simulated.worker import Worker
from umbel.testing import check_crew


class LocalHand:
    """A worker's end in this process, which does its pieces while the crew listens."""

    at = None
    ready = True

    def __init__(self, slot, work, yard):
        self.slot, self.name, self._yard = slot, f"hand {slot}", yard
        self.worker = Worker(b"".join, lambda parts: bytearray(b"".join(parts)))
        self.worker.load(lambda: work, 1)

    def try_client(self, client):
        assert self.worker.try_client(client, 1) is None
        self._yard.inbox.put(lambda: Tried(self))

    def send(self, piece):
        self._yard.inbox.put(lambda: self._do(piece))

    def kill(self, why):
        self.ready = False
        self._yard.inbox.put(lambda: Died(self, why))

    def _do(self, piece):
        contents = {name: self._yard.contents.open(name) for name in piece.given.values()}
        self.worker.open(piece, {name: memoryview(each.read(0, each.size)) for name, each in contents.items()})
        for position in range(len(piece.tasks)):
            self.worker.do_task(position)
        result = self.worker.finish()
        for name, update in result.updates.items():
            self._yard.contents.keep_update(name, [update])
        return Finished(self, result.done, result.totals)


class LocalYard:
    slots = 2

    def __init__(self, work, contents):
        self._work, self.contents, self.inbox = work, contents, queue.SimpleQueue()

    def describe(self):
        return "a hand"

    def hire(self, slot):
        hand = LocalHand(slot, self._work, self)
        self.inbox.put(lambda: Began(hand))
        return hand

    def hear(self, timeout):
        try:
            return [self.inbox.get(timeout=timeout)()]
        except queue.Empty:
            return []

    def wake(self):
        self.inbox.put(Woken)

    def close(self):
        pass


@contextlib.contextmanager
def inline(work, make=InlineCrew, contents=MemoryContents):
    kept = contents()
    crew = make(work, kept)
    yield crew, kept
    crew.close()


@contextlib.contextmanager
def remote(work, yard_of=LocalYard, tries="0"):
    contents = SharedContents()
    crew = RemoteCrew(yard_of(work, contents), contents, work.aggregator, ahead=2, beside=work.beside)
    try:
        crew.try_client(tries)
        yield crew, contents
    finally:
        crew.close()


def processes(work):
    return remote(work, lambda work, contents: ProcessYard(work, contents, slots=2, threads=1))


def test_an_inline_crew_is_one():
    check_crew(inline)
    check_crew(lambda work: inline(work, contents=SharedContents))


def test_a_crew_of_hands_is_one():
    check_crew(remote)


def test_a_crew_that_moves_in_the_middle_is_one(monkeypatch):
    monkeypatch.setattr("umbel.runtime.transports.simulated.auto.START_COST", -1e6)  # so that it pays at once
    monkeypatch.setattr("umbel.runtime.transports.simulated.auto.WORTH", 0.0)
    moved = []

    def auto(work, contents):
        def start():
            return RemoteCrew(LocalYard(work, contents), contents, work.aggregator, ahead=2, beside=work.beside)

        crew = AutoCrew(InlineCrew(work, contents), start, "0")
        moved.append(crew)
        return crew

    check_crew(lambda work: inline(work, auto, SharedContents))
    assert any(not crew.here for crew in moved)


@pytest.mark.system
def test_a_crew_of_processes_is_one():
    check_crew(processes, dies=True)


class Merging(InlineCrew):
    """Sends one sum for all chunks of a piece."""

    def wait(self, timeout):
        done = super().wait(timeout)
        while done is not None and len(done.totals) > 1:
            (*_, before, last) = sorted(done.totals)
            done.totals[before].merge(done.totals.pop(last))
        return done


class Deaf(InlineCrew):
    def wake(self):
        pass


class Obstinate(InlineCrew):
    def drop(self, number):
        pass


class Unseeded(InlineCrew):
    def __init__(self, work, contents):
        super().__init__(type(work)(work.client_fn, work.seed + 1, work.population, work.aggregator), contents)


@pytest.mark.parametrize(
    ("crew", "words"),
    [
        (Merging, "updates are folded where nobody asked for it, or are not"),
        (Deaf, r"wake\(\) from another thread does not end wait\(\)"),
        (Obstinate, "a piece that was dropped has an outcome"),
        (Unseeded, "answers are others than here"),
    ],
)
def test_a_crew_that_breaks_a_promise_is_found(crew, words, monkeypatch):
    monkeypatch.setattr("umbel.testing.crews._PATIENCE", 1.0)
    with pytest.raises(AssertionError, match=words):
        check_crew(lambda work: inline(work, crew))


