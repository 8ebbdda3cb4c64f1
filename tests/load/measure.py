"""`make soak`, `make load` and joining: what a server costs after very many rounds, and with very many clients.

    python tests/load/measure.py soak [--rounds 20000] [--faults 50] [--write docs/reliability.md]
    python tests/load/measure.py load [--clients 1000] [--active 100] [--rounds 20] [--write docs/reliability.md]
    python tests/load/measure.py join [--clients 10000]

Prints what it has measured, writes it into a page, and exits with 1 where something grows that should not. Real processes,
real sockets; the server is measured from outside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "system"), str(HERE.parent)]

from federations import Program, free_port, wait_for  # noqa: E402

from pages import machine, put  # noqa: E402
from umbel.testing import ChaosProxy  # noqa: E402

PROGRAMS = str(HERE / "programs.py")
MIB = 2**20


class Measured:
    """A server from outside."""

    def __init__(self, server: Program, folder: Path) -> None:
        self.server, self.folder = server, folder
        self._process = psutil.Process(server.pid)
        self._log = server.log.open(errors="replace")
        self.round = 0

    def update(self) -> None:
        """Reads on in its log up to the newest round."""
        for number in re.findall(r"\[ROUND (\d+)/", self._log.read()):
            self.round = int(number)

    def now(self) -> dict[str, float]:
        with self._process.oneshot():
            return {
                "round": self.round,
                "memory": self._process.memory_info().rss / MIB,
                "threads": self._process.num_threads(),
                "files": self._process.num_fds(),
                "database": sum(path.stat().st_size for path in self.folder.glob("umbel-runs/runs.sqlite*")) / MIB,
                "contents": len(list(self.folder.glob("umbel-runs/*/*.safetensors"))),
                "processor": sum(self._process.cpu_times()[:2]),
            }


def soak(rounds: int, faults: int) -> tuple[list[str], list[str]]:
    """Three clients, of whom one is behind a network that breaks; `faults` of 1,000 tasks fail. Lines, and what is wrong."""
    with tempfile.TemporaryDirectory(prefix="umbel-soak-") as name, contextlib.ExitStack() as closing:
        folder = Path(name)
        port = free_port()
        address = f"127.0.0.1:{port}"
        network = closing.enter_context(ChaosProxy(port, reset_after=(2_000, 60_000)))
        options = {"what": "server", "address": address, "rounds": rounds, "clients": 3, "size": 10}
        server = Program("server", [PROGRAMS, json.dumps(options)], folder, {})
        programs = [server]
        for who, where in (("a", address), ("b", address), ("c", network.address)):
            clients = {"what": "clients", "address": where, "names": [who], "faults": faults}
            programs.append(Program(who, [PROGRAMS, json.dumps(clients)], folder, {}))
        closing.callback(_end, programs)
        measured, seen, began = Measured(server, folder), [], time.monotonic()
        step = max(rounds // 20, 1)
        while server.alive:
            measured.update()
            if measured.round >= (len(seen) + 1) * step:
                seen.append(measured.now() | {"seconds": time.monotonic() - began})
                print(_line(seen[-1]), flush=True)
            time.sleep(0.1)
        seconds = time.monotonic() - began
        assert server.process.returncode == 0, server.text[-3000:]
        failed = len(re.findall(r"client \w+ failed", server.text))
        lines = [
            f"{rounds:,} rounds of 3 clients in {seconds:.0f} s ({1000 * seconds / rounds:.1f} ms each), {failed:,} failed "
            f"tasks, {network.resets:,} connections reset; {machine()}.",
            "",
            "| round | " + " | ".join(COLUMNS) + " |",
            "|--:" * (len(COLUMNS) + 1) + "|",
        ]
        every = max(len(seen) // 5, 1)
        for now in seen[every - 1 :: every]:
            lines.append(
                f"| {now['round']:,.0f} | " + " | ".join(f"{now[key]:,.{d}f}" for key, d in COLUMNS.values()) + " |"
            )
        per_round, wrong = _judged(seen)
        return [*lines, "", f"After the first fifth the server's memory grew by {per_round:.0f} bytes a round."], wrong


COLUMNS = {
    "memory, MiB": ("memory", 1),
    "database, MiB": ("database", 1),
    "threads": ("threads", 0),
    "open files": ("files", 0),
    "contents": ("contents", 0),
    "processor, s": ("processor", 0),
}


def _judged(seen: list[dict[str, float]]) -> tuple[float, list[str]]:
    """Bytes a round, and what grows beyond the History, which has a line for each round and each failure."""
    settled = seen[len(seen) // 5 :]
    first, last = settled[0], settled[-1]
    per_round = (last["memory"] - first["memory"]) * MIB / max(last["round"] - first["round"], 1)
    wrong = []
    if per_round > 1500:  # a History of such rounds, and its snapshots, take 1,000 by themselves
        wrong.append(f"memory grows by {per_round:.0f} bytes a round")
    for what, most in (("threads", 2), ("files", 12), ("contents", 6)):
        if last[what] > first[what] + most:
            wrong.append(f"{what} grow from {first[what]:.0f} to {last[what]:.0f}")
    if last["database"] > max(2 * first["database"], first["database"] + 16):
        wrong.append(f"the database grows from {first['database']:.1f} to {last['database']:.1f} MiB")
    return per_round, wrong


def load(clients: int, active: int, rounds: int) -> tuple[list[str], list[str]]:
    """All clients are connected, and each round asks some of them. Lines, and what is wrong."""
    with tempfile.TemporaryDirectory(prefix="umbel-load-") as name, contextlib.ExitStack() as closing:
        folder = Path(name)
        address = f"127.0.0.1:{free_port()}"
        options = {"what": "server", "address": address, "rounds": rounds, "clients": clients, "size": 1000}
        server = Program("server", [PROGRAMS, json.dumps({**options, "fraction": active / clients})], folder, {})
        programs = [server]
        closing.callback(_end, programs)
        measured = Measured(server, folder)
        server.says("Waiting for clients", 60)
        alone, began = measured.now(), time.monotonic()
        each = 125
        for start in range(0, clients, each):
            names = [f"client-{number}" for number in range(start, min(start + each, clients))]
            group = {"what": "clients", "address": address, "names": names, "faults": 0}
            programs.append(Program(f"clients {start}", [PROGRAMS, json.dumps(group)], folder, {}))
        server.says(f"({clients} available)", 300)
        joined = time.monotonic() - began
        wait_for(lambda: measured.update() or measured.round >= 2, 300, "the second round begins")
        full = measured.now()
        assert server.ends(600) == 0, server.text[-3000:]
        fits = [float(s) for s in re.findall(r"fit: received \d+ results and 0 failures in ([\d.]+) s", server.text)]
        missed = re.findall(r"fit: received \d+ results and [1-9]\d* failures", server.text)
        lines = [
            f"{clients:,} connected clients, {active} of them active in each of {rounds} rounds; {machine()}.",
            "",
            "| | |",
            "|---|--:|",
            f"| until all were connected | {joined:.1f} s |",
            f"| a round of training with {active} clients, median | {sorted(fits)[len(fits) // 2]:.2f} s |",
            f"| rounds in which a client was missed | {len(missed)} |",
            f"| server's memory, alone | {alone['memory']:.0f} MiB |",
            f"| with all clients | {full['memory']:.0f} MiB |",
            f"| for each client | {(full['memory'] - alone['memory']) * 1024 / clients:.1f} KiB |",
            f"| threads, alone and with all clients | {alone['threads']:.0f}, {full['threads']:.0f} |",
            f"| open files | {full['files']:,.0f} |",
        ]
        wrong = []
        if missed:
            wrong.append(f"{len(missed)} of {rounds} fits have failures")
        if (full["memory"] - alone["memory"]) * 1024 / clients > 200:
            wrong.append("a connected client takes more than 200 KiB")
        if full["threads"] > alone["threads"] + 8:
            wrong.append(f"threads grow with clients: {alone['threads']:.0f}, then {full['threads']:.0f}")
        return lines, wrong


def join(clients: int) -> tuple[list[str], list[str]]:
    """Clients that only join and wait, 32 at the same time, while the run waits for one more. Lines, and what is wrong.

    Once the strategy has given parameters, and once a client is to be asked for them when enough are there.
    """
    lines = ["| | all have joined after | of it the server's processor | first tenth | last tenth | memory for each | log |"]
    lines += ["|---" + "|--:" * 6 + "|"]
    wrong = []
    for given in (True, False):
        with tempfile.TemporaryDirectory(prefix="umbel-join-") as name, contextlib.ExitStack() as closing:
            folder, port = Path(name), free_port()
            options = {"address": f"127.0.0.1:{port}", "rounds": 1, "clients": clients + 1, "size": 10, "given": given}
            server = Program("server", [PROGRAMS, json.dumps({"what": "server", **options})], folder, {})
            programs = [server]
            closing.callback(_kill, programs)
            server.says("Waiting for clients", 60)
            measured = Measured(server, folder)
            alone, began = measured.now(), time.monotonic()
            programs.append(Program("clients", [str(HERE / "joining.py"), str(port), str(clients)], folder, {}))
            programs[1].says("tenths", 600)
            seconds, full = time.monotonic() - began, measured.now()
            tenths = [float(text) for text in programs[1].text.split()[1:]]
            kilobytes = (full["memory"] - alone["memory"]) * MIB / 1000 / clients
            processor = full["processor"] - alone["processor"]
            row = [
                "initial parameters" if given else "none",
                *(f"{each:.1f} s" for each in (seconds, processor, tenths[0], tenths[-1])),
                f"{kilobytes:.1f} kB",
                f"{server.text.count(chr(10))} lines",
            ]
            lines.append(f"| {' | '.join(row)} |")
            if kilobytes > 25:
                wrong.append(f"a client that waits takes {kilobytes:.1f} kB")
            if sum(tenths[-3:]) > 3 * sum(tenths[:3]):
                wrong.append(f"a join costs the more, the more are there: {tenths}")
    return [f"{clients:,} clients join; {machine()}.", "", *lines], wrong


def _kill(programs: list[Program]) -> None:
    for program in programs:
        program.process.kill()
        program.process.wait()


def _end(programs: list[Program]) -> None:
    for program in programs:
        with contextlib.suppress(AssertionError):
            program.ends(30)
        if program.alive:
            program.process.kill()
            program.process.wait()


def _line(now: dict[str, float]) -> str:
    return (
        f"round {now['round']:>6.0f}  {now['seconds']:>7.0f} s  memory {now['memory']:>6.1f} MiB  "
        f"database {now['database']:>6.1f} MiB  threads {now['threads']:>2.0f}  open files {now['files']:>3.0f}  "
        f"contents {now['contents']:>2.0f}  processor {now['processor']:>6.0f} s"
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = options.add_subparsers(dest="what", required=True)
    one = commands.add_parser("soak")
    one.add_argument("--rounds", type=int, default=20_000)
    one.add_argument("--faults", type=int, default=50, help="of 1,000 tasks")
    other = commands.add_parser("load")
    other.add_argument("--clients", type=int, default=1000)
    other.add_argument("--active", type=int, default=100)
    other.add_argument("--rounds", type=int, default=20)
    third = commands.add_parser("join")
    third.add_argument("--clients", type=int, default=10_000)
    for command in (one, other, third):
        command.add_argument("--write", type=Path, help="the page whose figures are replaced")
    chosen = options.parse_args()
    if chosen.what == "soak":
        lines, wrong = soak(chosen.rounds, chosen.faults)
    elif chosen.what == "join":
        lines, wrong = join(chosen.clients)
    else:
        lines, wrong = load(chosen.clients, chosen.active, chosen.rounds)
    print(*lines, *wrong, sep="\n")
    if chosen.write:
        put(chosen.write, chosen.what, [*lines, *wrong])
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
