"""The crew of hands elsewhere, with hands that do what a test says: who gets which piece, and what becomes of a death."""

from __future__ import annotations

from collections import deque

import pytest

from umbel.door import Door
from umbel.errors import SimulationError
from umbel.rounds.messages import Kind, Reply
from umbel.runtime.transports.simulated import crew as crews
from umbel.runtime.transports.simulated.crew import Began, Died, Finished, RemoteCrew, Tried, Woken
from umbel.runtime.transports.simulated.pieces import Asked, Done, Lost, Piece
from umbel.runtime.transports.simulated.shared import SharedContents

DOOR = Door(Kind.EVALUATE, None, 1, 1)


def piece(number, *clients, careful=False):
    tasks = tuple(Asked(int(client), client, int(client), 1, {}) for client in clients or ("0",))
    return Piece(number, Kind.EVALUATE, tasks, {}, DOOR, careful=careful)


class Hand:
    def __init__(self, slot, number):
        self.slot, self.name = slot, f"hand {slot}, number {number}"
        self.ready, self.at = False, None
        self.pieces = []
        self.killed = False

    def try_client(self, client):
        self.tries = client

    def send(self, piece):
        self.pieces.append(piece.number)

    def kill(self, why):
        self.ready, self.killed = False, True


class Yard:
    """Says what a test puts into `said`; without anything there nothing ever happens."""

    def __init__(self, slots):
        self.slots = slots
        self.hired = []
        self.said = deque()
        self.closed = False

    def describe(self):
        return "a hand"

    def hire(self, slot):
        self.hired.append(Hand(slot, len(self.hired)))
        return self.hired[-1]

    def hear(self, timeout):
        assert self.said or timeout == 0, "a crew waits for ever"
        return [self.said.popleft()] if self.said else []

    def wake(self):
        self.said.append(Woken())

    def close(self):
        self.closed = True

    # ---- what a test says

    def begins(self, hand):
        hand.ready = True
        self.said.append(Began(hand))

    def dies(self, hand, at=None):
        hand.ready, hand.at = False, at
        self.said.append(Died(hand, f"{hand.name} died"))


def crew_of(slots, *, ahead=2, contents=None):
    yard = Yard(slots)
    crew = RemoteCrew(yard, contents or SharedContents(), None, ahead=ahead)
    for hand in yard.hired:
        yard.begins(hand)
        assert crew.wait(0) is None
    return crew, yard, yard.hired[:]


def outcomes(crew, yard):
    found = []
    while yard.said or crew._outcomes:
        found.append(crew.wait(0))
    return found


def test_pieces_go_to_the_least_busy_and_wait_when_all_have_enough():
    crew, yard, (one, two) = crew_of(2)
    for number in range(4):
        assert crew.free()
        crew.start(piece(number))
    assert not crew.free()
    crew.start(piece(4))
    assert (one.pieces, two.pieces) == ([0, 2], [1, 3])
    yard.said.append(Finished(two, Done(1, {}), {}))
    assert crew.wait(0) == Done(1, {})
    assert two.pieces == [1, 3, 4]


def test_a_piece_that_is_done_with_care_is_alone_at_its_hand_and_nobody_overtakes_it():
    crew, yard, (hand,) = crew_of(1)
    crew.start(piece(0))
    crew.start(piece(1, careful=True))
    crew.start(piece(2))
    assert hand.pieces == [0]
    yard.said.append(Finished(hand, Done(0, {}), {}))
    crew.wait(0)
    assert hand.pieces == [0, 1]
    yard.said.append(Finished(hand, Done(1, {}), {}))
    crew.wait(0)
    assert hand.pieces == [0, 1, 2]


def test_a_death_costs_the_piece_that_the_hand_was_at_and_the_next_hand_gets_the_others(caplog):
    crew, yard, (hand,) = crew_of(1)
    crew.start(piece(0, "5", "6"))
    crew.start(piece(1))
    yard.dies(hand, at=6)
    assert crew.wait(0) == Lost(0, 6, "hand 0, number 0 died at client 6")
    assert [record.getMessage() for record in caplog.records] == ["hand 0, number 0 died; it is replaced"]
    (_, heir) = yard.hired
    yard.begins(heir)
    assert crew.wait(0) is None
    assert heir.pieces == [1]


def test_a_death_at_a_task_of_nobody_knows_which_says_so():
    crew, yard, (hand,) = crew_of(1)
    for at in (None, 99):
        crew.start(piece(0, "5"))
        yard.dies(hand, at=at)
        assert crew.wait(0) == Lost(0, None, f"{hand.name} died")
        hand = yard.hired[-1]
        yard.begins(hand)
        crew.wait(0)


def test_a_hand_that_stays_at_a_dropped_piece_is_killed_and_its_other_piece_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(crews, "GRACE", 0.0)
    crew, yard, (hand,) = crew_of(1)
    crew.start(piece(0))
    crew.start(piece(1))
    crew.drop(0)
    assert crew.free()
    assert crew.wait(0) is None
    assert hand.killed
    yard.dies(hand)
    assert outcomes(crew, yard) == [None]
    heir = yard.hired[-1]
    yard.begins(heir)
    crew.wait(0)
    assert heir.pieces == [1]
    assert not caplog.records  # nobody has died of whom anybody should hear


def test_a_dropped_piece_that_waits_at_a_hand_does_not_cost_the_piece_before_it(monkeypatch):
    monkeypatch.setattr(crews, "GRACE", 0.0)
    crew, yard, (hand,) = crew_of(1)
    crew.start(piece(0))
    crew.start(piece(1))
    crew.drop(1)
    crew.wait(0)
    assert not hand.killed
    yard.said.append(Finished(hand, Done(0, {}), {}))
    assert crew.wait(0) == Done(0, {})
    crew.wait(0)
    assert hand.killed


def test_nothing_is_heard_of_a_dropped_piece_and_nothing_of_it_is_kept():
    contents = SharedContents()
    crew, yard, (hand,) = crew_of(1, contents=contents)
    crew.start(piece(0))
    crew.drop(0)
    writer = contents.create("update")
    writer.write(b"x")
    writer.commit()
    yard.said.append(Finished(hand, Done(0, {0: Reply(1, 0.0, {}, "update")}), {}))
    assert outcomes(crew, yard) == [None]
    assert not contents._files
    crew.start(piece(1))
    assert hand.pieces == [0, 1]


def test_an_answer_may_overtake_another():
    crew, yard, (hand,) = crew_of(1)
    crew.start(piece(0))
    crew.start(piece(1))
    for number in (1, 0):
        yard.said.append(Finished(hand, Done(number, {}), {}))
    assert outcomes(crew, yard) == [Done(1, {}), Done(0, {})]


def test_a_trial_is_for_whoever_is_ready_first_and_a_death_there_is_told_at_once():
    crew = RemoteCrew(yard := Yard(2), SharedContents(), None, ahead=1)
    _, two = yard.hired
    yard.begins(two)
    yard.said.append(Tried(two))
    crew.try_client("7")
    assert two.tries == "7"
    yard.said.append(Died(two, f"{two.name} died"))
    with pytest.raises(SimulationError, match="hand 1, number 1 died when client_fn made client 8"):
        crew.try_client("8")
    crew.close()
    assert yard.closed


def test_hands_that_never_begin_end_the_simulation():
    crew = RemoteCrew(yard := Yard(1), SharedContents(), None, ahead=1)
    for _ in range(2):
        yard.dies(yard.hired[-1])
        crew.wait(0)
    yard.dies(yard.hired[-1])
    with pytest.raises(SimulationError, match="hand 0, number 2 died before it was ready, the 3rd in a row"):
        crew.wait(0)
