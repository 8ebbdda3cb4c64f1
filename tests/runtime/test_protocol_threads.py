"""Messages are decoded in many threads at once from the first one on, as clients of one process do."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from umbel.runtime.transports.http import protocol as p
sys.setswitchinterval(1e-6)
messages = [p.Next([p.TaskHead("t", "fit", 1, {"lr": 0.1}, p.ContentHead("c", 3, 7))]), p.Outcome("go")]
encoded = [(p.encode(message), type(message)) for message in messages]
together = threading.Barrier(64)
def decode():
    together.wait()
    for data, type_ in encoded:
        p.decode(data, type_)
threads = [threading.Thread(target=decode) for _ in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_the_first_messages_may_come_in_many_threads_at_once():
    """Before, about one process in ten of these died of a segmentation fault."""
    started = [subprocess.Popen([sys.executable, "-c", PROGRAM]) for _ in range(12)]
    assert [process.wait(120) for process in started] == [0] * 12
