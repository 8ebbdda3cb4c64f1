"""A client whose training can be foretold, and whose steps a test can watch and hold up."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from zlib import crc32

import numpy as np
from masked import key_of, masked, seeds_of

import umbel as fl

PATIENCE = 60.0  # seconds that a step may be held up


class Gates:
    """Named points in a process's life: files in a folder say who has reached which, and which are open again."""

    def __init__(self, folder: str | Path, who: str, held: list[str]) -> None:
        self.folder, self.who, self.held = Path(folder), who, held

    def arrive(self, point: str) -> None:
        """Tells that this process is here; where the point is held, waits until a test opens it."""
        (self.folder / f"{self.who}.{point}.reached").touch()
        until = time.monotonic() + PATIENCE
        while point in self.held and not (self.folder / f"{self.who}.{point}.open").exists():
            if time.monotonic() > until:
                raise TimeoutError(f"nobody opened {point}")
            time.sleep(0.005)


def initial(size: int) -> list[np.ndarray]:
    """Version 0: a float32 vector of `size`, a float64 matrix, integers, a float16 scalar."""
    rng = np.random.RandomState(7)
    return [
        rng.standard_normal(size).astype("float32"),
        rng.standard_normal((4, 3)),
        np.arange(5, dtype="int64"),
        np.float16(0.5).reshape(()),
    ]


class Member(fl.client.NumPyClient):
    """What it returns follows from what it got, from its name and from the round: no seed, no data."""

    def __init__(
        self,
        name: str,
        gates: Gates,
        *,
        size: int = 1000,
        raises: list[str] | None = None,
        spoils: list[str] | None = None,
        locks: dict[str, float] | None = None,
    ) -> None:
        self.locks = locks or {}
        self.name, self.gates, self.size, self.raises, self.spoils = name, gates, size, raises or [], spoils or []
        self.examples = 10 + crc32(name.encode()) % 90

    def get_properties(self, config):
        if "round" in config:  # the exchange "keys" of a masked sum
            self._step(f"keys.{config['round']}")
            return {"key": key_of(self.name, config["round"])}
        return {"name": self.name, "examples": self.examples}

    def get_parameters(self, config):
        self.gates.arrive("parameters")
        return initial(self.size)

    def fit(self, parameters, config):
        number = int(config["round"])
        self._step(f"fit.{number}")
        keys = parameters.pop() if "place" in config else None
        rng = np.random.RandomState(crc32(self.name.encode()) + number)
        parts = {} if self.context is None else self.context.parts  # None outside of a run
        control = parts.get("control", [0] * len(parameters))
        if parts:
            self.context.send("control", [each / 2 + crc32(self.name.encode()) % 8 for each in control])
        trained = []
        for array, moves in zip(parameters, control, strict=True):
            if array.dtype.kind == "f":
                moved = 0.5 * array + rng.standard_normal(array.shape) + moves
            else:
                moved = array + rng.randint(0, 9, array.shape)
            trained.append(np.asarray(moved).astype(array.dtype))
        if f"fit.{number}" in self.spoils:
            trained[0][-1] = np.nan
        sent = trained if keys is None else masked(trained, keys, config["place"])
        return sent, self.examples, {"first": float(trained[0][0])}

    def evaluate(self, parameters, config):
        if "place" in config:  # the exchange "unmask" of a masked sum
            self._step(f"unmask.{config['round']}")
            keys, gone = parameters
            return 0.0, 0, {"seeds": seeds_of(keys, config["place"], gone)}
        self._step(f"evaluate.{int(config['round'])}")
        return float(np.abs(parameters[0]).mean()), self.examples, {"examples": self.examples}

    def _step(self, point: str) -> None:
        self.gates.arrive(point)
        if point in self.locks:  # a C call that keeps the interpreter's lock: no other thread runs
            ctypes.PyDLL(None).poll(None, 0, int(1000 * self.locks[point]))
        if point in self.raises or point.split(".")[0] in self.raises:
            raise RuntimeError(f"no data for {point} today")
