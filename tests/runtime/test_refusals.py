"""What becomes of those who are refused, or come to nothing, again and again; with a clock that is moved by hand."""

from __future__ import annotations

import time

import pytest

from umbel.runtime.transports.http.connections import Limits
from umbel.runtime.transports.http.penance import FORGIVEN, LONGEST, Penance
from umbel.runtime.transports.http.refusals import KEPT_WAITING, Refusals


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def refusals(clock):
    return Refusals(Limits())


@pytest.fixture
def lines(caplog):
    caplog.set_level("INFO", "umbel")
    return lambda: [record.getMessage() for record in caplog.records]


def test_of_refused_connections_a_line_at_once_and_one_a_minute(refusals, clock, lines):
    for number in range(500):
        refusals.complain("192.0.2.7", f"reason {number}")
    refusals.complain("192.0.2.8", "another")
    refusals.sweep()
    assert lines() == ["192.0.2.7: reason 0", "192.0.2.8: another"]
    clock[0] += 61
    refusals.sweep()
    refusals.sweep()
    assert lines()[2:] == ["192.0.2.7: 499 more connections refused, the last one: reason 499"]


def test_what_is_said_of_a_stranger_is_said_once_a_minute(refusals, clock, lines):
    for _ in range(50):
        refusals.say("192.0.2.7", "refused", again=False)
    refusals.say("192.0.2.7", "refused otherwise", again=False)
    assert lines() == ["192.0.2.7: refused", "192.0.2.7: refused otherwise (49 lines about it were left out)"]
    clock[0] += 61
    refusals.say("192.0.2.7", "refused", again=False)
    assert len(lines()) == 3


def test_a_client_joins_three_times_and_once_a_minute_from_then_on(refusals, clock):
    assert [refusals.enters("a", "x") for _ in range(5)] == [True, True, True, False, False]
    clock[0] += 61
    assert [refusals.enters("a", "x") for _ in range(2)] == [True, False]


def test_an_address_whose_clients_leave_at_once_has_few_new_ones(refusals, clock):
    refusals.serves("useful")
    for number in range(250):
        refusals.leaves(f"m{number}", "x")
    assert not refusals.enters("new", "x")
    assert refusals.enters("useful", "x")
    assert refusals.enters("new", "y")
    clock[0] += 1
    assert refusals.enters("new", "x")


def test_whoever_stays_enters_though_others_of_its_address_come_and_go(refusals, clock):
    """Names that are in quarantine a moment later use up all there is; one that stays is not held up by them."""
    for number in range(250):
        refusals.leaves(f"m{number}", "x")
    assert not refusals.enters("new", "x", 3.0)
    assert refusals.enters("new", "x", 5.0)
    refusals.leaves("new", "x")
    assert [refusals.enters(f"stays-{number}", "x", 60.0) for number in range(6)] == [True] * 4 + [False] * 2
    clock[0] += 1
    refusals.leaves("m", "x")
    assert refusals.enters("stays-4", "x", 60.0)
    assert not refusals.enters("stays-5", "x", 60.0)


def test_ten_thousand_clients_of_one_address_come_in_at_once(refusals):
    assert all(refusals.enters(f"c{number}", "x") for number in range(10_000))


def test_clients_that_were_of_use_may_leave_and_come_as_they_like(refusals):
    for number in range(1_000):
        refusals.serves(f"c{number}")
        refusals.leaves(f"c{number}", "x")
    assert refusals.enters("new", "x")


def test_whoever_asks_in_vain_again_and_again_is_kept_waiting(refusals, clock):
    waits = [refusals.in_vain("m", stranger=False) for _ in range(40)]
    assert waits == [0.0] * 30 + [KEPT_WAITING] * 10
    assert refusals.in_vain("other", stranger=False) == 0.0
    clock[0] += 2
    assert refusals.in_vain("m", stranger=False) == 0.0


def test_an_address_is_many_strangers(refusals):
    assert not any(refusals.in_vain("x", stranger=True) for _ in range(1_000))
    assert refusals.in_vain("x", stranger=True)


def test_an_address_that_sends_what_is_no_http_waits_longer_and_is_forgiven(clock):
    penance = Penance()
    for _ in range(FORGIVEN):
        penance.offends("x")
    assert penance.wait("x") == 0.0
    penance.offends("x")
    first = penance.wait("x")
    for _ in range(200):
        penance.offends("x")
    assert 0 < first < penance.wait("x") == LONGEST
    assert penance.wait("y") == 0.0
    clock[0] += 10
    assert penance.wait("x") == 0.0


def test_one_client_in_quarantine_costs_its_address_nothing_and_one_after_another_does(clock):
    penance = Penance()
    penance.offends("x", 20)
    assert penance.wait("x") == 0.0
    penance.offends("x", 20)
    assert 0 < penance.wait("x") < LONGEST
    penance.offends("x", 60)
    assert penance.wait("x") == LONGEST
    clock[0] += 10
    assert penance.wait("x") == 0.0
