"""One real cluster for the tests of this folder, on loopback, with a token of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

# Ray reads these when it is imported, here and in everything that is started from here.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
os.environ.pop("RAY_ADDRESS", None)

# Ray takes 127.0.0.1 for "whatever address the network sees" on Linux; on macOS there is no other on loopback.
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"


@pytest.fixture(scope="session")
def cluster():
    """A cluster of one machine with two processors and, so it says, a GPU, from `ray start`: its address and its process."""
    for _ in range(3):  # Ray gives up after 30 s, which is little on a busy machine
        started, output, address = start()
        if started.poll() is None:
            break
    assert started.poll() is None, output.read_text()
    head = psutil.Process(started.pid)
    family = [head, *head.children(recursive=True)]
    yield address, head
    family += head.children(recursive=True)
    started.terminate()
    _, alive = psutil.wait_procs(family, timeout=60)
    for process in alive:
        process.kill()
    started.wait()
    shutil.rmtree(output.parent, ignore_errors=True)
    assert not alive, alive


def start():
    """Starts a head node, if it can. Its process, what it says, and its address."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: sockets lie in it
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    options = {
        "node-ip-address": LOOPBACK,
        "port": port,
        "num-cpus": 2,
        "num-gpus": 1,
        "include-dashboard": "false",
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": folder,
    }
    output = folder / "output.txt"
    with output.open("wb") as out:
        started = subprocess.Popen(
            [
                Path(sys.executable).with_name("ray"),
                "start",
                "--head",
                "--block",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    wait_for(lambda: "--block" in output.read_text() or started.poll() is not None, 120)
    return started, output, f"{LOOPBACK}:{port}"


@pytest.fixture
def own_ray():
    """Arguments of `ray.init` for a Ray of a program's own."""
    return {"address": "local", "num_cpus": 2, "_node_ip_address": LOOPBACK}


def wait_for(condition, seconds):
    """Waits for something that other processes do and nobody announces."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not in {seconds} s"
        time.sleep(0.05)
