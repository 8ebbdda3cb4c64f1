"""Federations of real processes for the system tests, and the same federation in one process to compare with."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

PROGRAMS = Path(__file__).parent / "programs"
sys.path.insert(0, str(PROGRAMS))  # the in-process run uses the very clients that the programs run

from member import Gates, Member, initial  # noqa: E402
from server import STRATEGIES  # noqa: E402

from umbel.common import ndarrays_to_parameters  # noqa: E402
from umbel.params import Params  # noqa: E402
from umbel.strategies.base import Strategy  # noqa: E402
from umbel.testing import run_locally  # noqa: E402

__all__ = ["Federation", "Program", "free_port", "in_process", "strategy_of", "together", "wait_for"]

T = TypeVar("T")


def wait_for(condition: Callable[[], T], deadline: float, what: str) -> T:
    """The first true answer of `condition`; fails with `what` after `deadline` seconds."""
    until = time.monotonic() + deadline
    while not (answer := condition()):
        assert time.monotonic() < until, f"within {deadline:g} s: {what}"
        time.sleep(0.01)
    return answer


_PORTS = random.SystemRandom()  # a run in this process seeds the global generator, and two federations would meet


def free_port() -> int:
    """A port that nobody listens on, from below the range out of which connections get theirs."""
    while True:
        port = _PORTS.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def together(story: Callable[..., None], *cases: tuple[object, ...]) -> None:
    """Tells a story once per case, all at the same time: they wait far more than they work."""
    with ThreadPoolExecutor(len(cases)) as tellers:
        told = [tellers.submit(story, *case) for case in cases]
    for story_told in told:
        story_told.result()


def launch(arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> subprocess.Popen:
    """Starts a Python program whose words go to `log`."""
    with log.open("w") as words:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
        )


class Program:
    """A running Python program, and what it has said so far on stdout and stderr together."""

    def __init__(
        self, name: str, arguments: list[str], folder: Path, environment: dict[str, str], start: Callable = launch
    ) -> None:
        self.name = name
        self.log = folder / f"{time.monotonic_ns()}.log"
        self.log.touch()
        self.process = start(arguments, folder, environment, self.log)
        self.pid = self.process.pid

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def says(self, words: str, deadline: float = 40.0, *, times: int = 1) -> None:
        """Waits until `words` are in its output `times` times."""

        def said() -> bool:
            assert self.alive or self.text.count(words) >= times, f"{self.name} ended without {words!r}:\n{self.text}"
            return self.text.count(words) >= times

        wait_for(said, deadline, f"{self.name} says {words!r}")

    def ends(self, deadline: float = 40.0) -> int:
        """Waits for its end; the exit code."""
        wait_for(lambda: not self.alive, deadline, f"{self.name} ends")
        return self.process.returncode

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def interrupt(self) -> None:
        self._signal(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.alive, f"{self.name} has ended by itself:\n{self.text}"
        self.process.send_signal(number)


class Federation:
    """A server and its clients on one port, in one folder. `end` kills whatever still runs; `start` starts a program."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", *, start: Callable = launch) -> None:
        self.folder = folder
        self.start = start
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True)
        self.port = free_port()
        self.address = f"{host}:{self.port}"
        self.programs: list[Program] = []

    def program(self, name: str, script: str | Path, *arguments: str, **environment: str) -> Program:
        started = Program(name, [str(script), *arguments], self.folder, environment, self.start)
        self.programs.append(started)
        return started

    def server(self, *, fresh: bool = False, dies: str = "", **options: object) -> Program:
        """`dies` names the failpoint at which it kills itself."""
        options = {"address": self.address, "gates": str(self.gates), **options}
        if fresh:
            options["fresh"] = True
        return self.program("server", PROGRAMS / "server.py", json.dumps(options), UMBEL_FAILPOINT=dies)

    def client(self, name: str, *, dies: str = "", HTTP_PROXY: str = "", **options: object) -> Program:
        options = {"name": name, "address": self.address, "gates": str(self.gates), **options}
        return self.program(
            name, PROGRAMS / "client.py", json.dumps(options), UMBEL_FAILPOINT=dies, HTTP_PROXY=HTTP_PROXY
        )

    def clients(self, *names: str, **options: object) -> list[Program]:
        return [self.client(name, **options) for name in names]

    def reached(self, who: str, point: str, deadline: float = 40.0) -> None:
        """Waits until this process is at this point, such as "fit.2"; then forgets that it was."""
        mark = self.gates / f"{who}.{point}.reached"
        wait_for(mark.exists, deadline, f"{who} reaches {point}\n{self.words()}")
        mark.unlink()

    def open(self, who: str, point: str) -> None:
        """Lets this process go on from this point, now and whenever it comes there again."""
        (self.gates / f"{who}.{point}.open").touch()

    def model(self) -> bytes:
        """The final model of the newest run, as its server has named it, without what the file says about itself."""
        server = [program for program in self.programs if program.name == "server"][-1]
        named = re.findall(r"Model: (.+\.safetensors)", server.text)
        assert named, f"the server names no model:\n{server.text}"
        return Params.from_bytes((self.folder / named[-1]).read_bytes()).to_bytes()

    def history(self) -> dict:
        return json.loads((self.folder / "history.json").read_text())

    def all_end(self, deadline: float = 40.0) -> None:
        """Waits for every process that still runs; each must end with exit code 0."""
        for program in [program for program in self.programs if program.alive]:
            assert program.ends(deadline) == 0, f"{program.name}:\n{program.text}"

    def words(self) -> str:
        return "\n".join(f"---- {program.name} ({program.process.poll()})\n{program.text}" for program in self.programs)

    def end(self) -> None:
        for program in self.programs:
            if program.alive:
                program.process.kill()
            program.process.wait()


def strategy_of(name: str, clients: int, *, size: int, given: bool, **keywords: object) -> Strategy:
    """The strategy that the program server.py makes of these options."""
    return STRATEGIES[name](
        min_fit_clients=clients,
        min_evaluate_clients=clients,
        min_available_clients=clients,
        on_fit_config_fn=lambda number: {"round": number},
        on_evaluate_config_fn=lambda number: {"round": number},
        initial_parameters=ndarrays_to_parameters(initial(size)) if given else None,
        **keywords,
    )


def in_process(
    folder: Path,
    names: list[str],
    *,
    rounds: int = 3,
    size: int = 1000,
    given: bool = True,
    strategy: str = "plain",
    keywords: dict | None = None,
) -> bytes:
    """The final model of these members when they train in this process, one after another, on no network at all."""
    chosen = strategy_of(strategy, len(names), size=size, given=given, **(keywords or {}))
    members = {name: Member(name, Gates(folder, name, []), size=size) for name in names}
    return Params.of(run_locally(chosen, members, num_rounds=rounds).arrays).to_bytes()
