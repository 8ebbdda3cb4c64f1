"""Federated averaging as a person writes it without a framework: in a loop, and over processes with shared memory.

Both make the same clients, give each a copy of the model, and add up the answers in float64, each times its number of
examples. They check nothing, sample nobody, seed nothing, and a client that raises ends them.
"""

from __future__ import annotations

import importlib
import multiprocessing
from types import ModuleType

import numpy as np
from reporting import Report

__all__ = ["alone", "loop", "pool"]

PATIENCE = 600.0  # seconds, after which a worker whose parent has died ends


def loop(task: ModuleType, options: dict, report: Report) -> list[dict]:
    """One client after another, in this process."""
    model, taken = task.initial(), []
    config = {"notes": options["notes"]}
    for _ in range(options["rounds"]):
        report.mark("round")
        total, examples = [np.zeros(array.shape) for array in model], 0
        for number in range(options["sampled"]):
            arrays, num_examples, noted = task.Owner(number).fit([array.copy() for array in model], config)
            add(total, arrays, num_examples)
            examples += num_examples
            taken.append(noted)
        model = [(array / examples).astype(np.float32) for array in total]
    report.mark("end")
    return [noted for noted in taken if noted]


def alone(task: ModuleType, options: dict, report: Report) -> list[dict]:
    """The clients' own code and nothing else: what it needs of memory."""
    model = task.initial()
    return [task.Owner(n).fit([a.copy() for a in model], {"notes": True})[2] for n in range(options["sampled"])]


def pool(task: ModuleType, options: dict, report: Report) -> list[dict]:
    """Over processes that were started once. The model and a sum for each are in shared memory; whoever is idle takes the
    next client from a counter.
    """
    context = multiprocessing.get_context("spawn")
    model, workers = np.concatenate([array.ravel() for array in task.initial()]), options["workers"]
    shared = context.RawArray("f", model.size)
    sums = [context.RawArray("d", model.size + 1) for _ in range(workers)]  # the last is the number of examples
    counter, gate = context.Value("i"), context.Barrier(workers + 1)
    name, rounds, sampled = task.__name__, options["rounds"], options["sampled"]
    common = (name, rounds, sampled, shared, counter, gate)
    processes = [context.Process(target=_work, args=(*common, mine), daemon=True) for mine in sums]
    for process in processes:
        process.start()
    gate.wait(PATIENCE)
    current = np.frombuffer(shared, np.float32)
    current[:] = model
    for _ in range(rounds):
        report.mark("round")
        counter.value = 0
        gate.wait(PATIENCE)  # they begin
        gate.wait(PATIENCE)  # they are done
        total = np.sum([np.frombuffer(mine) for mine in sums], axis=0)
        current[:] = total[:-1] / total[-1]
    report.mark("end")
    for process in processes:
        process.join()
    return []


def _work(name, rounds, sampled, shared, counter, gate, mine) -> None:
    task = importlib.import_module(name)
    shapes = [array.shape for array in task.initial()]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
    model, total = np.frombuffer(shared, np.float32), np.frombuffer(mine)
    sums = [flat.reshape(shape) for flat, shape in zip(np.split(total[:-1], ends), shapes, strict=True)]
    gate.wait(PATIENCE)
    for _ in range(rounds):
        gate.wait(PATIENCE)
        total[:] = 0
        while (number := _next(counter)) < sampled:
            copies = [flat.reshape(shape) for flat, shape in zip(np.split(model.copy(), ends), shapes, strict=True)]
            arrays, num_examples, _ = task.Owner(number).fit(copies, {})
            add(sums, arrays, num_examples)
            total[-1] += num_examples
        gate.wait(PATIENCE)


def _next(counter) -> int:
    with counter.get_lock():
        counter.value += 1
        return counter.value - 1


def add(total: list[np.ndarray], arrays: list[np.ndarray], weight: int) -> None:
    """Adds `weight` times the arrays into `total`, in float64."""
    for sum_, array in zip(total, arrays, strict=True):
        sum_ += np.multiply(array, weight, dtype=np.float64)
