"""Messages that never end, and take up the memory for messages: honest updates find room all the same."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from measuring import MIB, Pace

pytestmark = pytest.mark.system


class Hog:
    """Connections that send all but the last bytes of a message, and then a byte now and then."""

    def __init__(self, stranger):
        self.stranger = stranger
        self.connections = []

    def hold(self, task, size):
        connection = self.stranger.connection()
        connection.settimeout(2)
        head = f"POST /v1/tasks/{task}/reply HTTP/1.1\r\nhost: x\r\numbel-session: {self.stranger.session}\r\n"
        with contextlib.suppress(OSError):
            connection.sendall(f"{head}content-length: {size + 4096}\r\n\r\n".encode() + bytes(size))
        self.connections.append(connection)

    def dribble(self):
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.sendall(b"x")

    def open(self):
        """How many of its connections the server has not closed."""
        number = 0
        for connection in self.connections:
            connection.setblocking(False)
            try:
                number += connection.recv(1) != b"" and False
            except BlockingIOError:
                number += 1
            except OSError:
                pass
            connection.settimeout(2)
        return number


def going_on(server, hogs, seconds, rounds=3):
    """The hogs dribble for so long, and meanwhile there are so many rounds."""
    pace, until = Pace(server), time.monotonic() + seconds
    number = pace.rounds()
    while time.monotonic() < until or pace.rounds() < number + rounds:
        for hog in hogs:
            hog.dribble()
        threading.Event().wait(0.5)
        assert time.monotonic() < until + 40, f"{pace.rounds() - number} rounds"


@pytest.mark.slow
@pytest.mark.parametrize("size", [17_500, 250_000], ids=["70 kB", "1 MB"])
def test_hogs_of_tasks_that_are_not_theirs_hold_no_memory(federation, strange, size):
    server = federation.server(rounds=100_000, strategy="ours", central=False, size=size)
    server.says("Waiting for clients")
    federation.clients("a", "b", size=size)
    server.says("[ROUND 5/")
    hogs = [Hog(strange(federation.port, f"evil{n}")) for n in range(6)]
    for hog in hogs:
        hog.stranger.register()
        for _ in range(4):
            hog.hold("x", 15 * MIB)
    going_on(server, hogs, 3)
    assert "with 503" not in server.text
    assert "client a left" not in server.text


@pytest.mark.slow
def test_hogs_that_owe_an_answer_give_way(federation, strange):
    """They are asked for updates, and hold the memory for all messages with what never ends."""
    size, number = 250_000, 36
    keywords = {"buffer_size": 2, "concurrency": 2 + number}
    server = federation.server(
        rounds=100_000, strategy="buffered", central=False, size=size, clients=2 + number, keywords=keywords
    )
    server.says("Waiting for clients")
    hogs = [Hog(strange(federation.port, f"evil{n}")) for n in range(number)]
    for hog in hogs:
        hog.stranger.register()
    federation.clients("a", "b", size=size)
    for hog in hogs:
        hog.stranger.take_task()
        hog.hold(hog.stranger.task, 17 * MIB)
    going_on(server, hogs, 10)
    assert "a message that had to give way" in server.text
    for program in federation.programs[1:]:
        assert program.alive
    assert "client a left" not in server.text


@pytest.mark.slow
def test_a_message_that_hardly_moves_is_cut_off_in_time(federation, strange):
    server = federation.server(clients=1)
    server.says("Waiting for clients")
    hog = Hog(strange(federation.port, "evil"))
    hog.stranger.register()
    hog.stranger.take_task()
    hog.hold(hog.stranger.task, 2 * MIB)
    until = time.monotonic() + 90  # two pauses, and one look more
    while hog.open() and time.monotonic() < until:
        hog.dribble()
        threading.Event().wait(0.5)
    assert not hog.open()
    server.says("evil: ")
    assert "bytes of a body in 30 s; at least 2,048 a second" in server.text
