"""Programs under measurement: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PROGRAMS", "BenchError", "Program", "Workshop", "free_address", "listens", "workshop"]

PROGRAMS = Path(__file__).parent / "programs"
# Nothing calls home, and no proxy stands between two processes of one machine.
ENVIRONMENT = {"FLWR_TELEMETRY_ENABLED": "0", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"}


class BenchError(Exception):
    """A figure could not be measured."""


@dataclass(frozen=True)
class Program:
    """A running program; what it says goes to `log`, what it reports to `report`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    report: Path

    def result(self, deadline: float) -> dict[str, Any]:
        """Waits until a moment of `time.monotonic` for its good end; what it reported."""
        try:
            code = self.process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} has not ended in time\n{self.tail()}") from None
        if code:
            raise BenchError(f"{self.name} ended with exit code {code}\n{self.tail()}")
        return json.loads(self.report.read_text())

    def until(self, condition: Callable[[], bool], deadline: float, what: str) -> None:
        """Waits until `condition` holds; fails when the deadline or the program's end comes first."""
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{self.name}: {what} has not come\n{self.tail()}")
            time.sleep(0.02)

    def tail(self) -> str:
        return "\n".join(f"    {line}" for line in self.log.read_text(errors="replace").splitlines()[-12:])


class Workshop:
    """A folder for one measurement, and the programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[Program] = []

    def start(self, python: str, script: str, *arguments: str, name: str, **options: object) -> Program:
        """Starts `script` of the folder `programs`; its last argument is its options, as JSON."""
        log, report = self.folder / f"{name}.log", self.folder / f"{name}.json"
        command = [python, str(PROGRAMS / script), *arguments, json.dumps({**options, "report": str(report)})]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.PIPE,  # closed by the death of this process: the program then ends itself
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        program = Program(name, process, log, report)
        self.programs.append(program)
        return program

    def end(self) -> None:
        for program in self.programs:
            if program.process.poll() is None:
                program.process.kill()
        for program in self.programs:
            program.process.wait()
            if program.process.stdin is not None:
                program.process.stdin.close()


@contextlib.contextmanager
def workshop() -> Iterator[Workshop]:
    """A workshop in a temporary folder; at the end its programs are killed and the folder is removed."""
    with tempfile.TemporaryDirectory(prefix="umbel-bench-") as folder:
        shop = Workshop(Path(folder))
        try:
            yield shop
        finally:
            shop.end()


def free_address() -> str:
    """A loopback address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
