"""Measures simulations beside loops that were written by hand, and beside flwr where its Python is given.

    python bench/simulation.py [--with-flwr PYTHON] [--only NAME ...] [--quick] [--write docs/bench-simulation.md]

With flwr its environment needs flwr[simulation] 1.41.0, and torch for the figures `mlp` and `worker`,
and scikit-learn for `digits`.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.util import find_spec
from typing import Any

from measure import Row, Sample, Settings, Target, alternating, at_most, at_most_floors, at_most_flwr
from memory import peak_of_tree
from processes import BenchError, workshop
from run import Figures, main

WORKERS = 2
DEADLINE = 600.0  # seconds for one run
INLINE: dict[str, object] = {"backend": "inline", "progress": False}
PROCESSES: dict[str, object] = {"backend": "processes", "workers": WORKERS, "progress": False}
FLWR: dict[str, object] = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}  # so many workers as processors
# Everybody's clients use one thread; Ray calls nobody.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def tasks(settings: Settings) -> list[Row]:
    """What a client task costs when the client does nothing."""
    clients = settings.scaled(1000)
    compiled = {**INLINE, "compiled": True} if find_spec("numba") else None
    taken = alternating(
        max(settings.repeats, 5) if not settings.quick else 1,
        floor=lambda: _rounds(settings.python, "loop", "softmax", {}, clients, rounds=11),
        umbel=lambda: _rounds(settings.python, "umbel", "softmax", INLINE, clients, rounds=11),
        umbel_compiled=compiled and (lambda: _rounds(settings.python, "umbel", "softmax", compiled, clients, rounds=11)),
        umbel_processes=lambda: _rounds(settings.python, "umbel", "softmax", PROCESSES, clients, rounds=11),
        flwr=settings.flwr and (lambda: _rounds(settings.flwr, "flwr", "softmax", FLWR, clients, rounds=3)),
    )

    def row(what: str, ours: str, key: str, *targets: Target, with_flwr: bool = True) -> Row:
        floor, theirs = taken["floor"][key], taken["flwr"].get(key) if with_flwr else None
        return Row(what, "ms", 1000 * taken[ours][key], 1000 * floor, None if theirs is None else 1000 * theirs, targets)

    return [
        row("a task, inline", "umbel", "seconds", at_most_floors(5), at_most_flwr(80)),
        *([row("a task, inline, compiled", "umbel_compiled", "seconds", at_most_floors(3))] if compiled else []),
        row("a task, 2 processes", "umbel_processes", "seconds", at_most_floors(6), at_most_flwr(80)),
        row("CPU a task, inline", "umbel", "cpu", with_flwr=False),
    ]


def mlp(settings: Settings) -> list[Row]:
    """What is left of it when clients train."""
    clients = settings.scaled(100)
    taken = alternating(
        settings.repeats,
        floor=lambda: _rounds(settings.python, "pool", "mlp", {}, clients, rounds=6),
        umbel=lambda: _rounds(settings.python, "umbel", "mlp", PROCESSES, clients, rounds=6),
        flwr=settings.flwr and (lambda: _rounds(settings.flwr, "flwr", "mlp", FLWR, clients, rounds=3)),
    )
    ours, floor, theirs = (taken[name].get("round") for name in ("umbel", "floor", "flwr"))
    return [Row("a round, 2 processes", "s", ours or 0.0, floor, theirs, (at_most_floors(1.15), at_most_flwr(1)))]


def start(settings: Settings) -> list[Row]:
    """From the start of the program to the first line of the first client."""
    flwr = settings.flwr
    taken = alternating(
        max(settings.repeats, 5) if not settings.quick else 1,
        floor=lambda: _started(settings.python, "loop", {}),
        umbel=lambda: _started(settings.python, "umbel", INLINE),
        umbel_processes=lambda: _started(settings.python, "umbel", PROCESSES),
        flwr=flwr and (lambda: _started(flwr, "flwr", FLWR)),
    )
    floor, theirs = taken["floor"]["seconds"], taken["flwr"].get("seconds")
    return [
        Row("inline", "s", taken["umbel"]["seconds"], floor, theirs, (at_most(1, "s"),)),
        Row("2 processes", "s", taken["umbel_processes"]["seconds"], floor, theirs, (at_most(1, "s"),)),
    ]


def digits(settings: Settings) -> list[Row]:
    """A student's first program in all: from its start to its end, imports and the start of workers included."""
    flwr = settings.flwr
    taken = alternating(
        settings.repeats,
        floor=lambda: _whole(settings.python, "loop", "digits", {}),
        umbel=lambda: _whole(settings.python, "umbel", "digits", {"progress": False}),
        flwr=flwr and (lambda: _whole(flwr, "flwr", "digits", FLWR)),
    )
    floor, theirs = taken["floor"]["seconds"], taken["flwr"].get("seconds")
    return [Row("the whole program", "s", taken["umbel"]["seconds"], floor, theirs, (at_most_flwr(10),))]


def cnn(settings: Settings) -> list[Row]:
    """The same of a network that trains for a while. The floor is one process that does nothing else."""
    flwr = settings.flwr
    taken = alternating(
        settings.repeats,
        floor=lambda: _whole(settings.python, "loop", "cnn", {}),
        umbel=lambda: _whole(settings.python, "umbel", "cnn", {"progress": False, "workers": 2}),
        umbel_processes=lambda: _whole(settings.python, "umbel", "cnn", PROCESSES),
        flwr=flwr and (lambda: _whole(flwr, "flwr", "cnn", FLWR)),
    )
    floor, theirs = taken["floor"]["seconds"], taken["flwr"].get("seconds")
    return [
        Row("the whole program", "s", taken["umbel"]["seconds"], floor, theirs, (at_most_flwr(1.3),)),
        Row("the whole program, processes from the start", "s", taken["umbel_processes"]["seconds"], floor, theirs),
    ]


def worker(settings: Settings) -> list[Row]:
    """The memory of a worker, beside a process in which nothing but the clients' code runs."""
    rows = []
    for what, name, floats in (
        ("softmax", "softmax", 7_850),
        ("PyTorch MLP", "mlp", 159_010),
        ("a model of 100 MB", "large", 25_000_000),
    ):
        flwr = settings.flwr if name != "large" else None
        taken = alternating(
            min(settings.repeats, 2),
            floor=lambda name=name: _peak(settings.python, "alone", name, {}),
            umbel=lambda name=name: _peak(settings.python, "umbel", name, PROCESSES),
            flwr=flwr and (lambda name=name, flwr=flwr: _peak(flwr, "flwr", name, FLWR)),
        )
        ours, floor, theirs = (taken[variant].get("peak") for variant in ("umbel", "floor", "flwr"))
        assert ours is not None
        assert floor is not None
        limit = floor + 8e-6 * floats + 60  # the sum is in float64
        rows.append(Row(what, "MB", ours, floor, theirs, (at_most(round(limit), "MB"),)))
    return rows


def large(settings: Settings) -> list[Row]:
    """The memory of all processes together, for ten clients and for a hundred."""
    few, many = 10, settings.scaled(100)
    taken = alternating(
        1,
        umbel_few=lambda: _tree(settings.python, few, "large", 1, PROCESSES),
        umbel_many=lambda: _tree(settings.python, max(many, 2 * few), "large", 1, PROCESSES),
    )

    def row(what: str, unit: str, key: str, times: float, *targets: Target) -> Row:
        return Row(what, unit, times * taken["umbel_many"][key], times * taken["umbel_few"][key], None, targets)

    return [
        row("all processes and shared memory", "MB", "peak", 1, at_most_floors(1.1)),
        row("a task", "ms", "seconds", 1000),
    ]


def saves(settings: Settings) -> list[Row]:
    """What it costs that a strategy of one's own calls `super().aggregate_fit()` and saves the model: time and memory."""
    clients = settings.scaled(200)
    rows = []
    for where, more in (("inline", INLINE), ("2 processes", PROCESSES)):
        for name in ("FedAvg", "FaultTolerantFedAvg"):
            taken = alternating(
                settings.repeats,
                floor=lambda more=more: _tree(settings.python, clients, "medium", 3, more),
                umbel=lambda more=more, name=name: _tree(
                    settings.python, clients, "medium", 3, {**more, "strategy": name, "saves": True}
                ),
            )
            ours, floor = taken["umbel"], taken["floor"]
            rows += [
                Row(f"{name}, {where}: a round", "s", ours["round"], floor["round"], None, (at_most_floors(1.5),)),
                Row(f"{name}, {where}: memory", "MB", ours["peak"], floor["peak"], None, (at_most_floors(1.3),)),
            ]
    return rows


def million(settings: Settings) -> list[Row]:
    """What those cost who are not sampled."""
    taken = alternating(
        settings.repeats,
        floor=lambda: _rounds(settings.python, "umbel", "softmax", INLINE, 100, rounds=21, clients=1000),
        umbel=lambda: _rounds(settings.python, "umbel", "softmax", INLINE, 100, rounds=21, clients=1_000_000),
    )
    ours, floor = taken["umbel"], taken["floor"]
    return [
        Row("a round", "ms", 1000 * ours["round"], 1000 * floor["round"], None, (at_most_floors(1.1),)),
        Row("memory", "MB", ours["peak"], floor["peak"], None, (at_most_floors(1.1),)),
    ]


def tensors(settings: Settings) -> list[Row]:
    """What very many tensors cost. The first round, which plans for them, is in it."""
    if settings.quick:
        return []

    def times(how: str) -> Sample:
        report = _run(settings.python, how, "tensors", INLINE if how == "umbel" else {}, sampled=3, clients=3, rounds=2)
        return _times(report, 3, skip=0)

    taken = alternating(1, floor=lambda: times("loop"), umbel=lambda: times("umbel"))
    ours, floor = taken["umbel"], taken["floor"]
    return [
        Row("a round", "s", ours["round"], floor["round"], None, (at_most(20, "s"),)),
        Row("memory", "MB", ours["peak"], floor["peak"], None),
    ]


FIGURES: Figures = {
    "tasks": ("1,000 of 1,000 clients, softmax of 784 by 10, no training", tasks),
    "mlp": ("100 of 100 clients, PyTorch MLP 784-200-10, 600 images each", mlp),
    "digits": ("10 of 10 clients, scikit-learn's SGDClassifier on its digits, 10 rounds", digits),
    "cnn": ("20 of 20 clients, a small CNN on 60,000 pictures, 5 rounds", cnn),
    "start": ("from the start of the program to the first client, without torch", start),
    "worker": ("peak memory of a worker process", worker),
    "large": ("100 clients, a model of 100 MB, 2 processes; the floor is 10 clients", large),
    "tensors": ("3 clients, 200,000 tensors of 3 numbers, inline", tensors),
    "saves": ("200 clients, a model of 4 MB that the strategy saves each round; the floor is FedAvg, which does not", saves),
    "million": ("100 of 1,000,000 clients; the floor is 100 of 1,000", million),
}


def _rounds(
    python: str, how: str, task: str, more: dict[str, object], sampled: int, *, rounds: int, clients: int | None = None
) -> Sample:
    """A run, without its first round."""
    report = _run(python, how, task, more, sampled=sampled, clients=clients or sampled, rounds=rounds)
    return _times(report, sampled, skip=1)


def _times(report: dict[str, Any], sampled: int, skip: int) -> Sample:
    begins = [moment for moment in report["moments"] if moment[0] == "round"]
    (_, begin, cpu_begin), (_, end, cpu_end) = begins[skip], report["moments"][-1]
    count = len(begins) - skip
    return {
        "round": (end - begin) / count,
        "seconds": (end - begin) / count / sampled,
        "cpu": (cpu_end - cpu_begin) / count / sampled,
        "peak": report["peak"] / 1e6,
    }


def _started(python: str, how: str, more: dict[str, object]) -> Sample:
    begin = time.monotonic()  # one clock for all processes of a machine
    report = _run(python, how, "softmax", more, sampled=10, clients=10, rounds=1, notes=True)
    return {"seconds": min(noted["at"] for noted in report["taken"]) - begin}


def _whole(python: str, how: str, task: str, more: dict[str, object]) -> Sample:
    begin, (clients, rounds) = time.monotonic(), {"digits": (10, 10), "cnn": (20, 5)}[task]
    _run(python, how, task, more, sampled=clients, clients=clients, rounds=rounds)
    return {"seconds": time.monotonic() - begin}


def _peak(python: str, how: str, task: str, more: dict[str, object]) -> Sample:
    """The largest peak of a process that clients ran in, as clients of the last round saw it."""
    report = _run(python, how, task, more, sampled=20, clients=20, rounds=2, notes=True)
    return {"peak": max(noted["peak"] for noted in report["taken"]) / 1e6}


def _tree(python: str, clients: int, task: str, rounds: int, more: dict[str, object]) -> Sample:
    with workshop() as shop:
        options = {"sampled": clients, "clients": clients, "rounds": rounds, "notes": False, "workers": WORKERS}
        program = shop.start(python, "simulation.py", "umbel", task, name=task, more=more, **options)
        with peak_of_tree(program.process.pid) as most:
            report = program.result(time.monotonic() + DEADLINE)
    if not most[0]:
        raise BenchError("memory can be measured on Linux only")
    return {"peak": most[0] / 1e6, **{key: value for key, value in _times(report, clients, skip=0).items() if key != "peak"}}


def _run(
    python: str,
    how: str,
    task: str,
    more: dict[str, object],
    *,
    sampled: int,
    clients: int,
    rounds: int,
    notes: bool = False,
) -> dict[str, Any]:
    with workshop() as shop:
        options = {"sampled": sampled, "clients": clients, "rounds": rounds, "notes": notes, "workers": WORKERS}
        program = shop.start(python, "simulation.py", how, task, name=how, more=more, **options)
        return program.result(time.monotonic() + DEADLINE)


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    sys.exit(main(__file__, FIGURES, sys.argv[1:]))
