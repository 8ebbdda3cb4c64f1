"""A model of integers or short floats that is answered with something wider: it moves, whoever is idle beside it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.events import ExchangeClosed
from umbel.server import ServerConfig
from umbel.server.strategy import FedAvg, FedAvgM, FedMedian, FedTrimmedAvg, FedYogi, GeometricMedian, Krum
from umbel.simulation import start_simulation
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Steps(NumPyClient):
    """Adds a step in `answer`, a dtype; one that is idle sends back what it was given."""

    def __init__(self, start, step, answer="float64", idle=False):
        self.start, self.step, self.answer, self.idle = start, step, answer, idle

    def get_parameters(self, config):
        return self.start

    def fit(self, parameters, config):
        if self.idle:
            return parameters, 0, {}
        return [a.astype("float64").astype(self.answer) + np.asarray(self.step, self.answer) for a in parameters], 10, {}

    def evaluate(self, parameters, config):
        return float(parameters[0].astype("float64").reshape(-1)[0]), 10, {}


START = {
    "int64": [np.array([0, 0])],
    "uint8": [np.zeros(2, "uint8")],
    "bool": [np.array([False, False])],
    "beside floats": [np.array([0, 0]), np.zeros(3, "float32")],
    "a scalar": [np.array(0)],
    "float16": [np.zeros(2, "float16")],
    "bfloat16": [np.zeros(2, ml_dtypes.bfloat16)],
    "float8": [np.zeros(2, ml_dtypes.float8_e4m3fn), np.zeros(0, ml_dtypes.float8_e4m3fn)],
}
STRATEGIES = {
    "mean": FedAvg,
    "momentum": lambda **k: FedAvgM(server_momentum=1e-9, **k),
    "median": FedMedian,
    "trimmed": lambda **k: FedTrimmedAvg(beta=0.34, **k),
    "krum": lambda **k: Krum(num_malicious_clients=0, **k),
    "geometric": GeometricMedian,
}


def crowd(start, answer, idle=1):
    return {f"{i}": Steps(start, 0.4, answer, idle=i < idle) for i in range(idle + 4)}


@pytest.mark.parametrize("kind", START)
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_idle_client_does_not_pin_the_model(name, kind):
    strategy = STRATEGIES[name](min_fit_clients=5)
    run = run_locally(strategy, crowd(START[kind], "float32"), num_rounds=3)
    assert np.allclose(run.arrays[0].astype("float64"), 1.2, atol=1e-3)
    assert run.arrays[0].dtype == ("float32" if kind.startswith(("float", "bfloat")) else "float64")
    notes = [event.note for event in run.events if isinstance(event, ExchangeClosed) and event.kind == "fit"]
    assert "from now on, because clients answered" in notes[0]
    assert notes[1:] == ["", ""]  # it is said once


@pytest.mark.parametrize("kind", START)
@pytest.mark.parametrize("count", [5, 70], ids=["a chunk each", "chunks of two"])
def test_sums_that_workers_have_made_are_the_same_bits(kind, count):
    def member(context):
        number = int(context.node_id)
        answer = "float64" if number % 3 == 1 else "float32"
        return Steps(START[kind], 0.4 + number / 64, answer, idle=number % 4 == 0)

    class Own(FedAvgM):
        def aggregate_fit(self, server_round, results, failures):
            return super().aggregate_fit(server_round, results, failures)

    def made(strategy):
        versions = []
        keep = lambda number, arrays, config: versions.append([(a.dtype, a.tobytes()) for a in arrays])  # noqa: E731
        start_simulation(
            client_fn=member,
            num_clients=count,
            config=ServerConfig(num_rounds=3),
            strategy=strategy(min_fit_clients=count, evaluate_fn=keep, server_momentum=0.5, fraction_evaluate=0.0),
            backend="inline",
            progress=False,
        )
        return versions

    folded = made(FedAvgM)
    assert folded == made(Own)
    assert folded[0] != folded[1] != folded[2]


def test_float64_answers_to_a_float32_model_are_rounded_and_that_is_said_once():
    start = [np.zeros(2, "float32")]
    for own in (False, True):
        kind = type("Own", (FedAvg,), {"aggregate_fit": lambda self, *a: FedAvg.aggregate_fit(self, *a)}) if own else FedAvg
        run = run_locally(kind(), crowd(start, "float64"), num_rounds=2)
        notes = [event.note for event in run.events if isinstance(event, ExchangeClosed) and event.kind == "fit"]
        assert notes[0].startswith("clients answer with float64, and the model is float32: what they answer is rounded")
        assert notes[1] == ""
        assert run.arrays[0].dtype == "float32"


def test_a_simulation_says_it_too(caplog):
    start_simulation(
        client_fn=lambda context: Steps([np.zeros(2, "float32"), np.zeros(1, "float32")], 0.5, "float64"),
        num_clients=3,
        config=ServerConfig(num_rounds=2),
        strategy=FedAvg(),
        backend="inline",
        progress=False,
    )
    assert caplog.text.count("clients answer with float64, and the model is float32") == 1


def test_what_the_optimizer_remembers_goes_on_when_a_tensor_becomes_float32():
    """Positions in a slot follow the layout, which changes as a short tensor grows."""

    class Late(Steps):
        def fit(self, parameters, config):
            self.answer = "float32" if config["round"] > 2 else "float16"
            return super().fit(parameters, config)

    def moved(start):
        strategy = FedYogi(
            initial_parameters=ndarrays_to_parameters(start),
            on_fit_config_fn=lambda number: {"round": number},
            fraction_evaluate=0.0,
            min_fit_clients=1,
            min_available_clients=1,
        )
        return run_locally(strategy, {"a": Late(start, 0.5)}, num_rounds=4).arrays

    start = [np.zeros(2, "float16"), np.ones(3, "float32"), np.full(2, 2, "float16")]
    late, wide = moved(start), moved([a.astype("float32") for a in start])
    assert [a.dtype for a in late] == [np.float32] * 3
    for ours, theirs in zip(late, wide, strict=True):
        assert np.allclose(ours, theirs, atol=1e-3)
