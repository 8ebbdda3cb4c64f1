"""The trials' side of the zygote: children that look like `subprocess.Popen`."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["Child", "Zygote"]


class Child:
    """A process that the zygote has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = 60.0) -> int | None:
        self.ended.wait(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)


class Zygote:
    """Starts programs; `launch` has the signature that `federations.Program` asks for."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        self._orders = itertools.count()
        self._born: dict[int, Child] = {}
        self._children: dict[int, Child] = {}
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def launch(self, arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> Child:
        order = next(self._orders)
        line = {
            "order": order,
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "log": str(log),
        }
        with self._news:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
            assert self._news.wait_for(lambda: order in self._born, 60), "the zygote does not answer"
            return self._born.pop(order)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            news = json.loads(line)
            with self._news:
                if "ended" in news:
                    child = self._children.pop(news["pid"])
                    child.returncode = news["ended"]
                    child.ended.set()
                else:
                    child = self._born[news["order"]] = self._children[news["pid"]] = Child(news["pid"])
                self._news.notify_all()
