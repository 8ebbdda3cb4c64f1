"""Many clients that come and go are one line a second."""

from __future__ import annotations

import threading
import time

import pytest

from umbel.rounds import notices
from umbel.runtime.observers.console import Console


@pytest.fixture
def said(caplog):
    """The lines so far, at INFO."""
    caplog.set_level("INFO", logger="umbel")
    return lambda: [record.getMessage() for record in caplog.records]


def join(console, numbers):
    for number in numbers:
        console.observe(notices.ClientJoined(0.0, f"c{number}", number))


def test_a_few_have_a_line_each_and_many_have_one(said):
    console = Console()
    join(console, range(1, 1001))
    console.observe(notices.ClientLeft(0.0, "c7", 999, "it said goodbye"))
    console.observe(notices.WaitingForClients(0.0, 1, 999, 2000))
    first = said()
    assert len(first) < 20
    assert first[:10] == [f"client c{number} joined ({number} available)" for number in range(1, 11)]
    console.observe(notices.RoundStarted(0.0, 1, 3))  # before anything else, what is held back is said
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
    console.observe(notices.ClientLeft(0.0, "c7", 29, "its connection broke"))
    console.observe(notices.RunFinished(0.0, 0, "stopped", "", True))
    lines = [record.getMessage() for record in caplog.records]
    assert "client c29 joined (29 available)" in lines
    assert "client c7 left: its connection broke (29 available)" in lines
