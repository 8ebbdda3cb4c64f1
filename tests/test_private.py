"""Noise that protects: distributed as it should be, never the same twice, and nothing of it follows from a seed."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import umbel as fl
from umbel.common import ndarrays_to_parameters
from umbel.context import Context
from umbel.private import PrivateGenerator
from umbel.runtime.seeding import keep_generators, seed_generators

N = 400_000
DRAWS = {  # how it is drawn, its mean, its standard deviation, a quarter of it below
    "random": (lambda g: g.random(N), 0.5, 12**-0.5, 0.25),
    "uniform": (lambda g: g.uniform(-2, 4, N), 1.0, 3**0.5, -0.5),
    "standard_normal": (lambda g: g.standard_normal(N), 0.0, 1.0, -0.67449),
    "normal": (lambda g: g.normal(3, 2, N), 3.0, 2.0, 3 - 2 * 0.67449),
    "exponential": (lambda g: g.exponential(2, N), 2.0, 2.0, 2 * np.log(4 / 3)),
    "laplace": (lambda g: g.laplace(1, 2, N), 1.0, 2 * 2**0.5, 1 - 2 * np.log(2)),
    "integers": (lambda g: g.integers(-3, 4, N), 0.0, 2.0, None),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_numbers_have_their_distribution(name):
    """Bounds of seven standard deviations: missed by chance once in 10¹¹ runs."""
    draw, mean, deviation, quarter = DRAWS[name]
    drawn = draw(PrivateGenerator())
    assert drawn.shape == (N,)
    assert abs(drawn.mean() - mean) < 7 * deviation / N**0.5
    assert abs(drawn.std() / deviation - 1) < 7 * 1.5 / N**0.5
    if quarter is not None:
        assert abs((drawn < quarter).mean() - 0.25) < 7 * (0.25 * 0.75 / N) ** 0.5
        assert len(np.unique(drawn)) > 0.999 * N
    halves = np.corrcoef(drawn[: N // 2], drawn[N // 2 :])[0, 1]
    assert abs(halves) < 7 / (N / 2) ** 0.5


def test_normal_numbers_reach_as_far_out_as_they_should():
    drawn = np.abs(PrivateGenerator().standard_normal(N))
    assert abs((drawn > 3).mean() - 0.0026998) < 7 * (0.0027 / N) ** 0.5
    assert np.isfinite(drawn).all()


def test_integers_are_all_there_and_equally_likely():
    counts = np.bincount(PrivateGenerator().integers(0, 5, N))
    assert len(counts) == 5
    assert (abs(counts - N / 5) < 7 * (N * 0.2 * 0.8) ** 0.5).all()
    assert {PrivateGenerator().integers(7, 8) for _ in range(20)} == {7}
    wide = PrivateGenerator().integers(-(2**63), 2**63, 1000)
    assert wide.dtype == np.int64
    assert wide.min() < -(2**61)
    assert wide.max() > 2**61


@pytest.mark.parametrize(("low", "high"), [(0, 0), (3, 2), (0, 2**63 + 1), (-(2**64), 0)])
def test_integers_that_there_are_none_of_are_refused(low, high):
    with pytest.raises(ValueError, match="give low < high, within 64 bits"):
        PrivateGenerator().integers(low, high)


def test_sizes_and_parameters_are_as_in_numpy():
    g = PrivateGenerator()
    assert isinstance(g.normal(), float)
    assert isinstance(g.integers(5), int)
    assert g.normal(size=()).shape == ()
    assert g.laplace(size=(2, 0, 3)).shape == (2, 0, 3)
    assert g.normal(size=2**17 + 3).shape == (2**17 + 3,)
    weights = np.zeros((50, 2))
    assert len(np.unique(g.normal(weights, 1.0))) == 100  # each place has noise of its own
    assert g.normal(weights, [0.0, 1.0])[:, 0].tolist() == [0.0] * 50
    with pytest.raises(ValueError, match="scale=-1; give 0 or more"):
        g.normal(0, -1)
    assert sorted(g.permutation(100)) == list(range(100)) != g.permutation(100).tolist()
    assert sorted(g.permutation(np.array([[1, 2], [3, 4]])).ravel()) == [1, 2, 3, 4]
    assert len(g.bytes(16)) == 16


def test_nothing_of_it_follows_from_a_seed():
    def drawn():
        seed_generators(7, "client", "a", 1)
        context = Context("a", seed=7, round=1)
        private = context.private_rng.bytes(32), context.private_rng.normal()
        return *private, np.random.random(), random.random(), context.rng().random()

    with keep_generators():
        one, other = drawn(), drawn()
    assert one[2:] == other[2:]
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_a_forked_process_draws_its_own():
    read, write = os.pipe()
    generator = PrivateGenerator()
    if (child := os.fork()) == 0:
        os.write(write, generator.bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 32) != generator.bytes(32)
    os.close(read)
    os.close(write)


def test_there_is_nothing_that_could_be_kept():
    for keep in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="no state that could be kept; take context"):
            keep(PrivateGenerator())
    assert not hasattr(PrivateGenerator(), "__dict__")
    context = Context("a", seed=7)
    _ = context.private_rng.normal()
    assert pickle.loads(pickle.dumps(context)) == context


class Noisy(fl.client.NumPyClient):
    def fit(self, parameters, config):
        private, seeded = self.context.private_rng, np.random
        return parameters, 1, {"private": private.bytes(16), "seeded": seeded.bytes(16)}


def simulate(**options):
    seen = []

    def look(found):
        seen.extend((metrics["private"], metrics["seeded"]) for _, metrics in found)
        return {}

    fl.simulation.start_simulation(
        client_fn=lambda context: Noisy(),
        num_clients=3,
        config=fl.server.ServerConfig(num_rounds=2),
        strategy=fl.server.strategy.FedAvg(
            fraction_evaluate=0.0,
            fit_metrics_aggregation_fn=look,
            initial_parameters=ndarrays_to_parameters([np.zeros(2)]),
        ),
        progress=False,
        **options,
    )
    return [private for private, _ in seen], [seeded for _, seeded in seen]


@pytest.mark.parametrize("backend", ["inline", pytest.param("processes", marks=pytest.mark.system)])
def test_two_simulations_with_one_seed_draw_the_same_but_for_this(backend):
    runs = [simulate(seed=7, backend=backend, workers=2) for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert len(set(runs[0][0] + runs[1][0])) == 12


@pytest.mark.system
def test_two_federations_with_one_seed_draw_the_same_but_for_this_and_nothing_of_it_stays(tmp_path):
    """Over the network, with names that last: what a client has drawn in private is nowhere in what the run leaves."""
    (tmp_path / "program.py").write_text(PROGRAM)
    runs = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [sys.executable, tmp_path / "program.py"], cwd=tmp_path / name, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        drawn = json.loads(done.stdout.splitlines()[-1])
        runs.append(drawn)
        left = b"".join(path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()) + done.stderr.encode()
        for secret, open_word in zip(drawn["private"], drawn["seeded"], strict=True):
            assert bytes.fromhex(secret) not in left
            assert secret.encode() not in left
            assert bytes.fromhex(open_word) in left  # else the test would look in the wrong place
    assert runs[0]["seeded"] == runs[1]["seeded"]
    assert not set(runs[0]["private"]) & set(runs[1]["private"])


PROGRAM = """
import json, socket, threading
import numpy as np
import umbel as fl

drawn = {"private": [], "seeded": []}

class C(fl.client.NumPyClient):
    def get_parameters(self, config): return [np.zeros(2)]
    def fit(self, parameters, config):
        drawn["private"].append(self.context.private_rng.bytes(16).hex())
        seeded = np.random.bytes(16)
        drawn["seeded"].append(seeded.hex())
        return parameters, 1, {"seeded": seeded}

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % free.getsockname()[1]
client = threading.Thread(target=fl.client.start_client, kwargs={"server_address": address, "client": C(), "client_id": "a"})
client.start()
fl.server.start_server(
    server_address=address, config=fl.server.ServerConfig(num_rounds=2), seed=7,
    strategy=fl.server.strategy.FedAvg(
        min_fit_clients=1, min_available_clients=1, fraction_evaluate=0.0,
        fit_metrics_aggregation_fn=lambda found: found[0][1],
    ),
)
client.join()
print(json.dumps(drawn))
"""


def test_the_loud_paragraph_is_where_people_look():
    security = Path(__file__).parents[1].joinpath("SECURITY.md").read_text()
    for text in (security, fl.client.start_client.__doc__, Context.__doc__):
        assert "private_rng" in text
        assert "seeded" in text
        assert "protects nothing" in text
