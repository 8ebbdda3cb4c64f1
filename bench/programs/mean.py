"""The ordered mean of updates in files, and the floor under it: reading the same files once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from reporting import Report, run

from umbel.common import Code, FitRes, Status
from umbel.runtime.contents import FileContents, as_parameters, write_content
from umbel.server.strategy import FedAvg
from umbel.wire import Schema, TensorSpec

BLOCK = 2**20


def write_updates(contents: FileContents, updates: int, floats: int) -> list[str]:
    schema = Schema((TensorSpec("0", "F32", (floats,)),))
    names = [f"update-{i}" for i in range(updates)]
    for i, name in enumerate(names):
        write_content(contents, name, schema, random_blocks(np.random.default_rng(i), floats))
    return names


def random_blocks(rng: np.random.Generator, floats: int) -> Iterator[memoryview]:
    """Block by block, so that the peak of memory is the mean's."""
    for begin in range(0, floats, BLOCK):
        yield rng.random(min(BLOCK, floats - begin), np.float32).view(np.uint8).data


def combine(contents: FileContents, names: list[str]) -> None:
    results = [
        (None, FitRes(Status(Code.OK), as_parameters(contents.open(name)), weight, {}))
        for weight, name in enumerate(names, start=1)
    ]
    parameters, _ = FedAvg().aggregate_fit(1, results, [])
    write_content(contents, "mean", *parameters.stream())


def read_all(files: Iterator[Path]) -> None:
    buffer = bytearray(BLOCK)
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def main(options: dict) -> None:
    folder = Path(os.getcwd(), "updates")
    contents = FileContents(folder)
    report = Report()
    names = write_updates(contents, options["updates"], options["floats"])
    report.mark("read")
    read_all(folder.iterdir())
    report.mark("combine")
    combine(contents, names)
    report.mark("end")
    report.write(options["report"])


if __name__ == "__main__":
    run(main)
