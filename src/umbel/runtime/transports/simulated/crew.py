"""A crew of hands that are elsewhere: which hand does which piece, who is to blame for a death, and who takes over.

Knows pieces and hands; does not know what a hand is. A `Yard` starts hands and hears them: worker processes (processes.py),
or actors on a Ray cluster (ray.py). A hand does its pieces in the order in which it was sent them.

A hand that dies is named and replaced. The piece that it was at is `Lost`, and the transport decides about it; the others
that it had are dealt anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from msgspec import Struct

from umbel.aggregators import Aggregator
from umbel.errors import SimulationError
from umbel.fold import Adding, PartialSum
from umbel.params import Params
from umbel.rounds.messages import Reply
from umbel.runtime.log import logger
from umbel.runtime.transports.simulated.pieces import Done, Lost, Piece
from umbel.runtime.transports.simulated.shared import SharedContents
from umbel.wire import know

__all__ = ["Began", "Died", "Finished", "Hand", "RemoteCrew", "Said", "Tried", "Woken", "Yard"]

GRACE = 1.0  # seconds that a hand has to finish a piece that was dropped
STARTS = 3  # so often in a row a hand may fail to start
START_TIMEOUT = 600.0  # seconds for a place to work at, and for the user's imports
NAG_EVERY = 10.0  # seconds between two lines about a hand that is waited for


class Hand(Protocol):
    """One worker."""

    @property
    def slot(self) -> int:
        """Whose place it fills."""

    @property
    def name(self) -> str:
        """What people read, "worker 0 (process 4711)" say."""

    @property
    def ready(self) -> bool:
        """Whether it takes pieces: the user's code is loaded there, and it was not killed."""

    @property
    def at(self) -> int | None:
        """The index of the task that it is at, or was at when it died; None where that is unknown."""

    def try_client(self, client: str) -> None:
        """Has it make a client for nothing. The yard says `Tried`, or raises `SimulationError`."""

    def send(self, piece: Piece) -> None:
        """Hands over a piece, and those of its contents that the hand does not have."""

    def kill(self, why: str) -> None:
        """Ends it, whatever it is at. The yard says `Died`."""


class Began(Struct, frozen=True):
    """A hand has become ready."""

    hand: Hand


class Tried(Struct, frozen=True):
    """A hand has made a client."""

    hand: Hand


class Finished(Struct, frozen=True):
    """A hand has done a piece. Updates that travel by themselves are in the contents; `totals` are sums, as contents."""

    hand: Hand
    done: Done
    totals: Mapping[int, memoryview | bytearray]  # by chunk


class Died(Struct, frozen=True):
    """A hand is gone, and nothing more comes from it."""

    hand: Hand
    why: str


class Woken(Struct, frozen=True):
    """Somebody called `wake`."""


Said = Began | Tried | Finished | Died | Woken


class Yard(Protocol):
    """Where hands are."""

    @property
    def slots(self) -> int:
        """How many hands there is room for."""

    def describe(self) -> str:
        """What is waited for while no hand is ready, "a worker process" say."""

    def hire(self, slot: int) -> Hand:
        """Starts a hand, without waiting for it."""

    def hear(self, timeout: float | None) -> list[Said]:
        """Waits until something is said, at most `timeout` seconds. Raises `SimulationError` where user code is unusable."""

    def wake(self) -> None:
        """Has `hear` return `Woken`, from any thread or a signal handler."""

    def close(self) -> None:
        """Ends all hands."""


@dataclass(slots=True)
class _Place:
    """One slot, and the hand that fills it just now."""

    hand: Hand
    pieces: deque[Piece] = field(default_factory=deque)  # the first is being done
    began: bool = False
    kill_at: float | None = None


class RemoteCrew:
    """A hand for each slot of the yard. `ahead` is how many pieces a hand may have before it has answered."""

    here = False

    def __init__(
        self,
        yard: Yard,
        contents: SharedContents,
        aggregator: Aggregator | None,
        *,
        ahead: int,
        beside: Mapping[str, Aggregator] = MappingProxyType({}),
    ) -> None:
        self.slots = yard.slots
        self._yard = yard
        self._contents = contents
        self._adding = None if aggregator is None else Adding(aggregator, beside)
        self._ahead = ahead
        self._backlog: deque[Piece] = deque()  # pieces for the next hand that is ready for one
        self._outcomes: deque[Done | Lost] = deque()
        self._dropped: set[int] = set()
        self._failed_starts = 0
        self._trial: tuple[Hand, str] | None = None  # who makes which client for nothing
        self._tried = False
        try:
            self._places = [_Place(yard.hire(slot)) for slot in range(self.slots)]
        except BaseException:
            yard.close()
            raise

    def try_client(self, client: str) -> None:
        """Waits until a hand has made a client. Raises `SimulationError` where it cannot."""
        began, self._tried = time.monotonic(), False
        while not self._tried:
            self._prepare(client, NAG_EVERY)
            waited = time.monotonic() - began
            if self._trial is not None or self._tried:
                continue
            if waited > START_TIMEOUT:
                raise SimulationError(
                    f"waited {START_TIMEOUT:.0f} s for {self._yard.describe()}: none began; does client_fn's module wait?"
                )
            if waited > NAG_EVERY:
                logger.info("Waiting for %s (for %.0f s)", self._yard.describe(), waited)

    def becomes_ready(self, client: str) -> bool:
        """Whether all hands are ready, and one has made this client for nothing; does not wait for that.

        Raises `SimulationError` where a hand cannot begin.
        """
        self._prepare(client, 0.0)
        return self._tried and all(place.hand.ready for place in self._places)

    def _prepare(self, client: str, timeout: float) -> None:
        """Has the first hand that is ready make a client, and takes in what hands say, for so long at most."""
        ready = [place.hand for place in self._places if place.hand.ready]
        if ready and self._trial is None and not self._tried:
            self._trial = ready[0], client
            ready[0].try_client(client)
        self._hear(timeout)

    def free(self) -> bool:
        # A dropped piece takes no place: its end is not told, and the next piece would wait for ever.
        at_work = sum(piece.number not in self._dropped for place in self._places for piece in place.pieces)
        return len(self._backlog) + at_work < self._ahead * self.slots

    def start(self, piece: Piece) -> None:
        self._backlog.append(piece)
        self._deal()

    def wait(self, timeout: float | None) -> Done | Lost | None:
        until = None if timeout is None else time.monotonic() + timeout
        while not self._outcomes:
            left = None if until is None else until - time.monotonic()
            if not self._hear(left) or (left is not None and left <= 0):
                break
        return self._outcomes.popleft() if self._outcomes else None

    def wake(self) -> None:
        self._yard.wake()

    def drop(self, number: int) -> None:
        self._backlog = deque(piece for piece in self._backlog if piece.number != number)
        for place in self._places:
            if any(piece.number == number for piece in place.pieces):
                self._dropped.add(number)
                self._hurry(place)

    def close(self) -> None:
        if self._places:  # else it is closed
            self._places = []
            self._yard.close()

    # ---- what hands say

    def _hear(self, timeout: float | None) -> bool:
        """Waits for something to happen and takes it in. False where `wake` was called."""
        deadlines = [place.kill_at for place in self._places if place.kill_at is not None]
        if deadlines:
            patience = min(deadlines) - time.monotonic()
            timeout = patience if timeout is None else min(timeout, patience)
        goes_on = True
        for said in self._yard.hear(None if timeout is None else max(timeout, 0.0)):
            match said:
                case Began(hand):
                    self._places[hand.slot].began = True
                    self._failed_starts = 0
                    self._deal()
                case Tried():
                    self._trial, self._tried = None, True
                case Finished(hand, done, totals):
                    self._take(self._places[hand.slot], done, totals)
                case Died(hand, why):
                    self._bury(self._places[hand.slot], why)
                case Woken():
                    goes_on = False
        now = time.monotonic()
        for place in self._places:
            if place.kill_at is not None and now >= place.kill_at:
                place.kill_at = None
                place.hand.kill(f"{place.hand.name} was ended: it took too long")
        return goes_on

    def _take(self, place: _Place, done: Done, totals: Mapping[int, memoryview | bytearray]) -> None:
        """A hand works in order, but a long answer may be overtaken by a short one."""
        (piece,) = (piece for piece in place.pieces if piece.number == done.number)
        place.pieces = deque(other for other in place.pieces if other is not piece)
        place.kill_at = None
        self._hurry(place)
        self._deal()
        if done.number in self._dropped:
            self._dropped.discard(done.number)
            for answer in done.answers.values():
                if isinstance(answer, Reply) and answer.content is not None:
                    self._contents.remove(answer.content)
            return
        done.totals = {chunk: self._read_sum(total, piece) for chunk, total in totals.items()}
        self._outcomes.append(done)

    def _read_sum(self, total: memoryview | bytearray, piece: Piece) -> PartialSum:
        assert self._adding is not None
        assert piece.door.schema is not None
        content = Params.from_bytes(total)
        know(content.schema)
        return self._adding.read(piece.door.schema, piece.door.beside, content)

    # ---- what hands are given

    def _deal(self) -> None:
        """Hands pieces to those who are ready, the least busy first. A piece that is done with care is alone at its hand."""
        while self._backlog:
            alone = self._backlog[0].careful
            able = [place for place in self._places if place.hand.ready and len(place.pieces) < self._limit(place, alone)]
            if not able:
                return
            place, piece = min(able, key=lambda place: len(place.pieces)), self._backlog.popleft()
            place.pieces.append(piece)
            place.hand.send(piece)

    def _limit(self, place: _Place, alone: bool) -> int:
        return 1 if alone or any(piece.careful for piece in place.pieces) else self._ahead

    def _hurry(self, place: _Place) -> None:
        if place.pieces and place.pieces[0].number in self._dropped and place.kill_at is None:
            place.kill_at = time.monotonic() + GRACE

    # ---- deaths

    def _bury(self, place: _Place, why: str) -> None:
        """Names a hand that has died, tells which piece is lost, and replaces it."""
        hand = place.hand
        if self._trial is not None and self._trial[0] is hand:
            raise SimulationError(f"{why} when client_fn made client {self._trial[1]}")
        if not place.began:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise SimulationError(f"{why} before it was ready, the {STARTS}rd in a row; what it printed is above")
        self._places[hand.slot] = _Place(self._yard.hire(hand.slot))
        pieces = deque(piece for piece in place.pieces if piece.number not in self._dropped)
        self._dropped -= {piece.number for piece in place.pieces}
        if pieces and pieces[0] is place.pieces[0]:
            lost = pieces.popleft()
            logger.warning("%s; it is replaced", why)
            found = next((asked for asked in lost.tasks if asked.index == hand.at), None)
            said = why if found is None else f"{why} at client {found.client}"
            self._outcomes.append(Lost(lost.number, None if found is None else found.index, said))
        self._backlog.extendleft(reversed(pieces))
        self._deal()
