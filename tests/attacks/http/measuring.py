"""What an attack costs: the server's memory while it lasts, and how many rounds the honest clients have meanwhile."""

from __future__ import annotations

import contextlib
import re
import threading
import time

import psutil

__all__ = ["MIB", "Pace", "no_more_than", "rss"]

MIB = 2**20


def rss(server):
    return psutil.Process(server.pid).memory_info().rss


@contextlib.contextmanager
def no_more_than(server, size):
    """The server's memory grows by less than `size` bytes, watched every 20 ms."""
    before, most, done = rss(server), [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            most[0] = max(most[0], rss(server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    grown = most[0] - before
    print(f"the server grew by {grown / MIB:.1f} MiB")
    assert grown < size, f"{grown / MIB:.0f} MiB"


class Pace:
    """Rounds a second, as the server's log has them."""

    def __init__(self, server):
        self.server = server

    def rounds(self):
        return int(re.findall(r"\[ROUND (\d+)/", self.server.text)[-1])

    def over(self, seconds):
        """For that long."""
        begun, before = time.monotonic(), self.rounds()
        threading.Event().wait(seconds)
        return (self.rounds() - before) / (time.monotonic() - begun)

    @contextlib.contextmanager
    def at_least(self, share, seconds=3.0):
        """Inside, rounds are at least `share` times as fast as in the `seconds` before."""
        before = self.over(seconds)
        begun, number = time.monotonic(), self.rounds()
        yield
        during = (self.rounds() - number) / (time.monotonic() - begun)
        print(f"rounds a second: {before:.1f} before, {during:.1f} during")
        assert during >= share * before, (before, during)
