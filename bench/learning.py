"""The learning itself, on real MNIST, beside published figures: python bench/learning.py [CELL ...]

- `2nn-iid`, `2nn-non-iid`: McMahan et al. 2017, table 1. 100 clients, C = 0.1, B = 10, E = 1, two hidden layers of 200:
  rounds until 97 % of the test set are right. The curve is made monotone and interpolated, as in the paper. The paper tuned
  the learning rate of every cell and does not say what came out; here it is one (`--rate`), and it decides: IID, seed 1,
  0.05 takes 105 rounds, 0.1 takes 58 and 0.2 takes 41.
- `byzantine-RULE-ATTACK[-s2]`: He, Karimireddy, Jaggi 2022, the non-IID MNIST of their section 6: 25 workers, 5 of them
  attackers, batches of 32, rate 0.01, worker momentum 0.9, 600 iterations, labels sorted: accuracy at the end (the mean of
  the last five evaluations, one every 30 iterations). `s2` puts buckets of two before the rule. Where the paper is silent,
  it is as in the program that its authors published: the convolutions have one ReLU between them; a worker's examples are
  shuffled every 30 iterations; all drop the same units in every iteration; one that flips its gradient has no momentum.

Each cell is a whole simulation with Umbel's strategies. A number counts as reproduced within max(1 point, 2 sd), a number
of rounds within 25 %; otherwise the table says "not reproduced", with what was found. `--part 0.2` shortens every cell, and
then nothing is judged. The Byzantine cells need torch.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

import umbel as fl
from umbel.common import FitRes, Parameters, ndarrays_to_parameters
from umbel.datasets.idx import read_idx
from umbel.datasets.mnist_files import FULL, TEST, TRAIN
from umbel.datasets.partition.few_classes import shards
from umbel.rng import frozen_stream
from umbel.server import Until
from umbel.server import strategy as strategies

PAGE = Path(__file__).parent.parent / "docs" / "learning.md"

# ---- the data


def mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures as float32 of shape (n, 784) from 0 to 1, and labels: for training, and for testing."""
    names = (*TRAIN, *TEST)
    x, y, test_x, test_y = (read_idx(FULL.files.read(name)) for name in names)
    flat = [(pictures.reshape(len(pictures), -1) / 255).astype(np.float32) for pictures in (x, test_x)]
    return flat[0], y.astype(np.int64), flat[1], test_y.astype(np.int64)


@dataclass(frozen=True)
class Published:
    """What a paper found; `unit` is "rounds" or "%", `sd` 0 where none is given."""

    value: float
    unit: str
    sd: float = 0.0

    def verdict(self, found: list[float]) -> str:
        if any(math.isnan(value) for value in found):
            return "not reproduced: not reached"
        mean = statistics.mean(found)
        if self.unit == "rounds":
            when = "sooner" if mean < self.value else "later"
            return "reproduced" if abs(mean - self.value) <= 0.25 * self.value else f"not reproduced: {when}"
        spread = max(self.sd, statistics.stdev(found) if len(found) > 1 else 0.0)
        return "reproduced" if abs(mean - self.value) <= max(1.0, 2 * spread) else "not reproduced"


# ---- FedAvg on two hidden layers (McMahan et al. 2017, table 1), in numpy: a step on ten rows takes 0.1 ms


def two_layers(seed: int) -> list[np.ndarray]:
    """784-200-200-10, uniform as PyTorch begins: 199,210 parameters."""
    draw, arrays = frozen_stream(seed, "initial"), []
    for rows, columns in ((784, 200), (200, 200), (200, 10)):
        bound = 1 / math.sqrt(rows)
        arrays += [draw.uniform(-bound, bound, (rows, columns)), draw.uniform(-bound, bound, columns)]
    return [array.astype(np.float32) for array in arrays]


def forward(arrays: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    first = np.maximum(x @ arrays[0] + arrays[1], 0)
    second = np.maximum(first @ arrays[2] + arrays[3], 0)
    return [x, first, second, second @ arrays[4] + arrays[5]]


def descend(arrays: list[np.ndarray], x: np.ndarray, y: np.ndarray, rate: float) -> None:
    """A step of stochastic gradient descent on the mean cross-entropy, in place."""
    *inputs, logits = forward(arrays, x)
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    logits[np.arange(len(y)), y] -= 1
    back = logits * (rate / len(y))
    for layer in (2, 1, 0):
        weights, bias = arrays[2 * layer], arrays[2 * layer + 1]
        step = inputs[layer].T @ back
        if layer:
            following = (back @ weights.T) * (inputs[layer] > 0)
        weights -= step
        bias -= back.sum(axis=0)
        if layer:
            back = following


class Trainer(fl.client.NumPyClient):
    """One epoch in batches of ten."""

    def __init__(self, context, x: np.ndarray, y: np.ndarray, rate: float) -> None:
        self.context, self.x, self.y, self.rate = context, x, y, rate

    def fit(self, parameters, config):
        rows = self.context.rng().permutation(len(self.y))
        for start in range(0, len(rows), 10):
            batch = rows[start : start + 10]
            descend(parameters, self.x[batch], self.y[batch], self.rate)
        return parameters, len(self.y), {}


def rounds_to(target: float, curve: list[float]) -> float:
    """Where the monotone curve, from round 1 on, reaches the target, linearly interpolated; NaN where it does not."""
    best = np.maximum.accumulate(curve)
    if best[-1] < target:
        return math.nan
    reached = int(np.argmax(best >= target))
    before = best[reached - 1] if reached else 0.0
    return reached + float((target - before) / (best[reached] - before))


def fedavg(*, iid: bool, rounds: int) -> Callable[[int, argparse.Namespace], float]:
    def run(seed: int, options: argparse.Namespace) -> float:
        x, y, test_x, test_y = mnist()
        if iid:
            parts = np.array_split(frozen_stream(seed, "iid").permutation(len(y)), 100)
        else:
            parts = shards(y, num_partitions=100, num_shards_per_partition=2, seed=seed)
        curve: list[float] = []

        def evaluate(number, arrays, config):
            accuracy = float(np.mean(forward(arrays, test_x)[-1].argmax(axis=1) == test_y))
            if number:
                curve.append(accuracy)
                if number % 20 == 0:
                    print(f"    round {number}: {max(curve):.4f}", file=sys.stderr, flush=True)
            return 0.0, {"accuracy": accuracy}

        def client_fn(context):
            part = parts[int(context.node_id)]
            return Trainer(context, x[part], y[part], options.rate).to_client()

        strategy = strategies.FedAvg(
            fraction_fit=0.1,
            fraction_evaluate=0.0,
            initial_parameters=ndarrays_to_parameters(two_layers(seed)),
            evaluate_fn=evaluate,
            until=Until(metric="accuracy", at_least=0.97),
        )
        simulate(client_fn, 100, max(int(rounds * options.part), 1), strategy, seed)
        return rounds_to(0.97, curve)

    return run


def simulate(client_fn, clients: int, rounds: int, strategy, seed: int) -> None:
    fl.simulation.start_simulation(
        client_fn=client_fn,
        num_clients=clients,
        config=fl.server.ServerConfig(num_rounds=rounds),
        strategy=strategy,
        backend="inline",
        seed=seed,
        progress=False,
    )


# ---- attackers (He, Karimireddy, Jaggi 2022): a round is one iteration, a client sends x - rate * momentum

WORKERS, ATTACKERS, RATE, MOMENTUM, EPOCH = 25, 5, 0.01, 0.9, 30
RULES = {
    "mean": lambda **k: strategies.FedAvg(**k),
    "median": lambda **k: strategies.FedMedian(**k),
    "krum": lambda **k: strategies.Krum(num_malicious_clients=ATTACKERS, **k),
    # 0.1, and below 10 / (1 - momentum), for momenta: updates are rate times as long
    "rfa": lambda **k: strategies.GeometricMedian(iterations=8, smoothing=RATE * 0.1, **k),
    "cclip": lambda **k: strategies.CenteredClipping(clipping_radius=RATE * 10 / (1 - MOMENTUM), iterations=3, **k),
}


def byzantine(rule: str, attack: str, buckets: int = 1) -> Callable[[int, argparse.Namespace], float]:
    def run(seed: int, options: argparse.Namespace) -> float:
        import torch

        torch.set_num_threads(1)
        x, y, test_x, test_y = mnist()
        honest = WORKERS - ATTACKERS
        parts = np.array_split(np.argsort(y, kind="stable"), honest) + [np.arange(len(y))] * ATTACKERS
        network = Network(seed)
        momenta: dict[str, list[np.ndarray]] = {}
        curve: list[float] = []

        def client_fn(context):
            number = int(context.node_id)
            kind = Worker if number < honest else Flipper if attack == "bf" else Idler
            return kind(context, network, x, y, parts[number], momenta).to_client()

        def evaluate(number, arrays, config):
            if number and number % EPOCH == 0:
                curve.append(100 * network.accuracy(arrays, test_x, test_y))
                print(f"    iteration {number}: {curve[-1]:.2f} %", file=sys.stderr, flush=True)
            return

        keywords = {
            "fraction_evaluate": 0.0,
            "min_fit_clients": WORKERS,
            "min_available_clients": WORKERS,
            "initial_parameters": ndarrays_to_parameters(network.initial()),
            "evaluate_fn": evaluate,
        }
        strategy = RULES[rule](**keywords)
        strategy = strategies.Bucketing(strategy, bucket_size=buckets) if buckets > 1 else strategy
        if attack == "alie":
            strategy.__class__ = knowing(type(strategy))
        simulate(client_fn, WORKERS, max(int(600 * options.part), 30), strategy, seed)
        return statistics.mean(curve[-5:])

    return run


def knowing(kind: type) -> type:
    """The strategy, in a world whose attackers see all honest updates: "A Little Is Enough" (Baruch et al. 2019)."""
    needed = WORKERS // 2 + 1 - ATTACKERS
    z = statistics.NormalDist().inv_cdf((WORKERS - ATTACKERS - needed) / (WORKERS - ATTACKERS))

    class Knowing(kind):
        def aggregate_fit(self, server_round, results, failures):
            honest = [res.parameters.arrays() for client, res in results if int(client.cid) < WORKERS - ATTACKERS]
            stacked = [np.stack(arrays) for arrays in zip(*honest, strict=True)]
            little = [np.float32(s.mean(axis=0) + z * s.std(axis=0, ddof=1)) for s in stacked]  # against -gradient
            lies = [
                (client, FitRes(res.status, Parameters.of(little), res.num_examples, res.metrics))
                if int(client.cid) >= WORKERS - ATTACKERS
                else (client, res)
                for client, res in results
            ]
            return super().aggregate_fit(server_round, lies, failures)

    return Knowing


class Network:
    """Two convolutions and two layers: 1,199,882 parameters; arrays in, gradients out."""

    def __init__(self, seed: int) -> None:
        import torch
        from torch import nn

        torch.manual_seed(seed)
        self.torch, self.seed = torch, seed
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), nn.Dropout2d(0.25)),
            *(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
        )

    def initial(self) -> list[np.ndarray]:
        return [p.detach().numpy().copy() for p in self.model.parameters()]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Channels last: a gradient of 32 pictures takes 48 ms instead of 57."""
        for parameter, array in zip(self.model.parameters(), arrays, strict=True):
            last = self.torch.channels_last if array.ndim == 4 else self.torch.contiguous_format
            parameter.data = self.torch.from_numpy(array).to(memory_format=last)

    def pictures(self, x: np.ndarray):
        return self.torch.from_numpy((x.reshape(-1, 1, 28, 28) - np.float32(0.1307)) / np.float32(0.3081))

    def gradient(self, arrays: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        self.load(arrays)
        self.model.train()
        self.torch.manual_seed(self.seed)  # what is dropped
        loss = self.torch.nn.functional.cross_entropy(self.model(self.pictures(x)), self.torch.from_numpy(y))
        return [g.numpy() for g in self.torch.autograd.grad(loss, list(self.model.parameters()))]

    def accuracy(self, arrays: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
        self.load([np.array(array) for array in arrays])
        self.model.eval()
        with self.torch.no_grad():
            guessed = [self.model(self.pictures(x[i : i + 1000])).argmax(dim=1).numpy() for i in range(0, len(x), 1000)]
        return float(np.mean(np.concatenate(guessed) == y))


class Worker(fl.client.NumPyClient):
    """A batch of 32 in each round, in turn; a step down the momentum of its gradients, which is its own."""

    def __init__(self, context, network: Network, x, y, part, momenta: dict[str, list[np.ndarray]]) -> None:
        self.context, self.network, self.x, self.y, self.part, self.momenta = context, network, x, y, part, momenta

    def fit(self, parameters, config):
        epoch, batch = divmod(self.context.round - 1, EPOCH)
        order = frozen_stream(self.context.seed, "rows", self.context.node_id, epoch).permutation(self.part)
        rows = order[32 * batch : 32 * (batch + 1)]
        direction = self.direction(self.network.gradient(parameters, self.x[rows], self.y[rows]))
        return [x - np.float32(RATE) * d for x, d in zip(parameters, direction, strict=True)], 32, {}

    def direction(self, gradient: list[np.ndarray]) -> list[np.ndarray]:
        name = self.context.node_id
        past = self.momenta.get(name)
        if past is not None:
            gradient = [MOMENTUM * m + g for m, g in zip(past, gradient, strict=True)]
        self.momenta[name] = gradient
        return gradient


class Flipper(Worker):
    """An attacker that steps up its gradient, on data like anybody's."""

    def direction(self, gradient: list[np.ndarray]) -> list[np.ndarray]:
        return [-g for g in gradient]


class Idler(Worker):
    """An attacker whose update is made up when all others are known."""

    def fit(self, parameters, config):
        return parameters, 32, {}


# ---- cells


CELLS: dict[str, tuple[Callable[[int, argparse.Namespace], float], Published]] = {
    "2nn-iid": (fedavg(iid=True, rounds=200), Published(87, "rounds")),
    "2nn-non-iid": (fedavg(iid=False, rounds=1500), Published(664, "rounds")),
    "byzantine-cclip-alie": (byzantine("cclip", "alie"), Published(98.04, "%")),
    "byzantine-krum-alie": (byzantine("krum", "alie"), Published(11.37, "%")),
    "byzantine-rfa-alie": (byzantine("rfa", "alie"), Published(11.37, "%")),
    "byzantine-median-alie": (byzantine("median", "alie"), Published(9.94, "%")),
    "byzantine-rfa-alie-s2": (byzantine("rfa", "alie", 2), Published(91.7, "%", 10.0)),
    "byzantine-cclip-bf": (byzantine("cclip", "bf"), Published(97.65, "%")),
    "byzantine-rfa-bf": (byzantine("rfa", "bf"), Published(82.8, "%")),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cells", nargs="*", choices=[[], *CELLS], metavar="CELL", help=f"some of: {', '.join(CELLS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rate", type=float, default=0.1, help="the clients' learning rate in the 2nn cells")
    parser.add_argument("--part", type=float, default=1.0, help="part of the length; below 1 nothing is judged")
    parser.add_argument("--results", type=Path, help="a JSON file: what it has is not run again, what is run is added")
    parser.add_argument("--write", action="store_true", help="the table into docs/learning.md")
    options = parser.parse_args()
    known = json.loads(options.results.read_text()) if options.results and options.results.exists() else {}
    for cell in options.cells or CELLS:
        for seed in options.seeds:
            key = f"{cell} seed {seed} rate {options.rate} part {options.part}"
            if key not in known:
                began = time.perf_counter()
                found = CELLS[cell][0](seed, options)
                known[key] = {"cell": cell, "found": found, "seconds": time.perf_counter() - began, "part": options.part}
                print(f"{key}: {found:.2f} in {known[key]['seconds']:.0f} s", flush=True)
                if options.results:
                    options.results.write_text(json.dumps(known, indent=1))
    lines = table(known)
    print("\n".join(lines))
    if options.write:
        PAGE.write_text(page(lines, options))
    return 0


def table(known: dict[str, dict]) -> list[str]:
    lines = ["| cell | published | found, mean \N{PLUS-MINUS SIGN} sd | seeds | |", "|:--|--:|--:|--:|:--|"]
    for cell, (_, published) in CELLS.items():
        if not any(entry["cell"] == cell for entry in known.values()):
            lines.append(f"| {cell} | {published.value:g} {published.unit} | not run | 0 | |")
        for part in sorted({entry["part"] for entry in known.values() if entry["cell"] == cell}, reverse=True):
            found = [e["found"] for e in known.values() if e["cell"] == cell and e["part"] == part]
            whole = part == 1.0
            reached = [value for value in found if not math.isnan(value)]
            mean = f"{statistics.mean(reached):.1f}" if reached else "not reached"
            sd = f" \N{PLUS-MINUS SIGN} {statistics.stdev(reached):.1f}" if len(reached) > 1 else ""
            verdict = published.verdict(found) if whole else f"{part:g} of the length: not judged"
            name = cell if whole else f"{cell}, shortened"
            lines.append(f"| {name} | {published.value:g} {published.unit} | {mean}{sd} | {len(found)} | {verdict} |")
    return lines


def page(lines: list[str], options: argparse.Namespace) -> str:
    """docs/learning.md."""
    about = (
        f"{datetime.date.today()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"learning rate {options.rate} in the 2nn cells."
    )
    return "\n".join(["# The learning itself", "", (__doc__ or "").partition("\n\n")[2].strip(), "", about, "", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
