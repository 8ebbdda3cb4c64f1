"""What each transform costs, saves and loses.

    python bench/transforms.py            bytes on the way, and MB of float32 a second of one processor, there and back
    python bench/transforms.py --learn    accuracy on MNIST, too

MNIST: 2NN of 199,210 parameters, 100 IID clients, 10 a round, one epoch of batches of 10, rate 0.1. That takes ten
minutes, and the data are fetched where they are not in the cache.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import numpy as np

import umbel as fl
from learning import mnist
from umbel.common import ndarrays_to_parameters
from umbel.params import Params
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation
from umbel.transforms import Chain, Site, cast, chain, clip, differences, int8, reader_in, source_of, top_k
from umbel.update import MODEL, Update

SIZE, BLOCK, TIMES = 4_000_000, 1 << 18, 5
ROUNDS, CLIENTS, BATCH, RATE = 30, 100, 10, np.float32(0.1)
BOX = (
    chain(differences()),
    chain(clip(1.0)),
    chain(cast("fp16")),
    chain(cast("bf16")),
    chain(int8()),
    chain(top_k(0.1)),
    chain(top_k(0.01)),
)


def cost(transforms: Chain) -> str:
    """Bytes of a value, and MB of float32 a second of processor time, for encoding and decoding."""
    draw = np.random.RandomState(0)
    before = [draw.normal(size=SIZE).astype(np.float32)]
    after = [before[0] + np.float32(0.01) * draw.normal(size=SIZE).astype(np.float32)]
    base, out, took = Params.of(before), np.empty(4 * SIZE, np.uint8), ([], [])
    for _ in range(TIMES):
        began = time.process_time()
        update, layout = transforms.encode(Update({MODEL: after}, 1, {}), base, lambda link: Site(link.name, seed=7))
        encoded = time.process_time()
        arrays, given = layout.joined(update), reader_in(transforms.layouts(base.schema)[0], base.arrays())
        source = source_of(transforms.decode(reader_in(layout, arrays), given, {}))
        for start in range(0, len(out), BLOCK):
            source(start, out[start : start + BLOCK].data)
        took[0].append(encoded - began)
        took[1].append(time.process_time() - encoded)
    there, back = (4 * SIZE / min(times) / 1e6 for times in took)
    return f"{sum(array.nbytes for array in arrays) / SIZE:6.3f} bytes {there:6.0f} {back:6.0f} MB/s"


def forward(p: fl.common.NDArrays, x: np.ndarray) -> list[np.ndarray]:
    layers = [x]
    for i in range(3):
        z = layers[-1] @ p[2 * i] + p[2 * i + 1]
        layers.append(np.maximum(z, 0) if i < 2 else z)
    return layers


def learn(transforms: Chain | None, seed: int) -> str:
    """Accuracy after rounds 5, 10 and 30, and the first round with 95 %."""
    x, y, test_x, test_y = mnist()
    parts = np.random.RandomState(0).permutation(len(x)).reshape(CLIENTS, -1)
    draw, sizes, start = np.random.RandomState(0), (784, 200, 200, 10), []
    for a, b in pairwise(sizes):
        start += [(draw.randn(a, b) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, np.float32)]

    class Learner(fl.client.NumPyClient):
        def __init__(self, context: fl.common.Context) -> None:
            self.mine = parts[int(context.node_id)]

        def fit(
            self, p: fl.common.NDArrays, config: fl.common.Config
        ) -> tuple[fl.common.NDArrays, int, fl.common.Metrics]:
            order = np.random.permutation(self.mine)
            for begin in range(0, len(order), BATCH):
                chosen = order[begin : begin + BATCH]
                layers = forward(p, x[chosen])
                g = np.exp(layers[-1] - layers[-1].max(1, keepdims=True))
                g /= g.sum(1, keepdims=True)
                g[np.arange(len(chosen)), y[chosen]] -= 1
                g /= len(chosen)
                for i in (2, 1, 0):
                    weights, bias, below = layers[i].T @ g, g.sum(0), g @ p[2 * i].T * (layers[i] > 0)
                    p[2 * i] -= RATE * weights
                    p[2 * i + 1] -= RATE * bias
                    g = below
            return p, len(order), {}

    right: list[float] = []

    def evaluate(number: int, p: fl.common.NDArrays, _: object) -> tuple[float, fl.common.Metrics]:
        right.append(float((forward(p, test_x)[-1].argmax(1) == test_y).mean()))
        return 1 - right[-1], {}

    strategy = FedAvg(
        fraction_fit=0.1,
        min_fit_clients=10,
        fraction_evaluate=0.0,
        transform=transforms,
        initial_parameters=ndarrays_to_parameters(start),
        evaluate_fn=evaluate,
    )
    config = fl.server.ServerConfig(num_rounds=ROUNDS)
    start_simulation(
        client_fn=Learner, num_clients=CLIENTS, config=config, strategy=strategy, backend="inline", seed=seed, progress=False
    )
    first = next((str(number) for number, part in enumerate(right) if part >= 0.95), "none")
    return f"seed {seed}: {right[5]:.4f} {right[10]:.4f} {right[30]:.4f}, 95 % in round {first}"


def main() -> None:
    for transforms in BOX:
        print(f"{transforms.links[-1]!r:24} {cost(transforms)}", flush=True)
    for seed in (0, 1) if "--learn" in sys.argv else ():
        for each in (None, *BOX[1:]):
            print(f"{'none' if each is None else repr(each.links[-1]):24} {learn(each, seed)}", flush=True)


if __name__ == "__main__":
    main()
