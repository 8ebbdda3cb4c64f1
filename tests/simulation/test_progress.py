"""Who watches a terminal sees one line that moves; everybody else plain lines."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

PROGRAM = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {folder!r})
    from members import client_fn, fedavg
    import umbel as fl
    fl.simulation.start_simulation(
        client_fn=client_fn, num_clients=5, config=fl.server.ServerConfig(num_rounds=3), strategy=fedavg(), backend="inline"
    )
    """
).format(folder=str(Path(__file__).parent))


def on_a_terminal(program):
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen([sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            said += piece
        os.close(ours)
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_bar_and_warnings_above_it():
    said = on_a_terminal(PROGRAM)
    assert "100%" in said
    assert "3/3" in said
    assert "loss" in said
    assert "[ROUND" not in said
    lines = [line for line in said.replace("\r", "\n").split("\n") if "WARNING" in line]
    assert lines
    assert all("round/s" not in line for line in lines)


def test_a_file_gets_plain_lines():
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60).stderr
    assert "[ROUND 3/3]" in said
    assert "round/s" not in said
    assert "\x1b" not in said
