"""Many clients that come and go are one line a second."""

from __future__ import annotations

import threading
import time

import pytest

from umbel import events
from umbel.runtime.observers.console import Console


@pytest.fixture
def said(caplog):
    """The lines so far, at INFO."""
    caplog.set_level("INFO", logger="umbel")
    return lambda: [record.getMessage() for record in caplog.records]


def join(console, numbers):
    for number in numbers:
        console.observe(events.ClientJoined(at=0.0, client=f"c{number}", available=number))


def test_a_few_have_a_line_each_and_many_have_one(said):
    console = Console()
    join(console, range(1, 1001))
    console.observe(events.ClientLeft(at=0.0, client="c7", available=999, why="it said goodbye"))
    console.observe(events.WaitingForClients(at=0.0, round=1, available=999, needed=2000))
    first = said()
    assert len(first) < 20
    assert first[:10] == [f"client c{number} joined ({number} available)" for number in range(1, 11)]
    console.observe(events.RoundStarted(at=0.0, round=1, num_rounds=3))  # before anything else, what is held back is said
    assert said()[len(first) :] == ["990 clients joined, 1 left (999 available, 2000 are needed)", "", "[ROUND 1/3]"]


def test_what_is_held_back_is_said_within_a_second_or_so_although_nothing_else_happens(said):
    console = Console()
    join(console, range(1, 31))
    until = time.monotonic() + 30
    while not said()[-1].endswith("(30 available)") and time.monotonic() < until:
        threading.Event().wait(0.02)
    assert said()[-1] == "20 clients joined (30 available)"
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]


def test_they_have_lines_of_their_own_at_debug(caplog):
    caplog.set_level("DEBUG", logger="umbel")
    console = Console()
    join(console, range(1, 31))
    console.observe(events.ClientLeft(at=0.0, client="c7", available=29, why="its connection broke"))
    console.observe(events.RunEnded(at=0.0, rounds=0, status="stopped", why="stopped"))
    lines = [record.getMessage() for record in caplog.records]
    assert "client c29 joined (29 available)" in lines
    assert "client c7 left: its connection broke (29 available)" in lines
