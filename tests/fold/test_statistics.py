"""A server's optimizer steps weights; running statistics and counters are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import StrategyError
from umbel.fold import statistics_of
from umbel.params import Params
from umbel.server import ServerConfig
from umbel.server.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedBuff, FedYogi
from umbel.simulation import start_simulation
from umbel.testing import run_locally
from umbel.training import NumPyClient
from umbel.wire import Schema, TensorSpec

ORDER = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


class Norm(NumPyClient):
    """A BatchNorm over data of small variance, as PyTorch writes one: its running variance goes from 1 to almost 0."""

    def __init__(self, scale=0.05, counter=True):
        self.scale, self.counter = scale, counter

    def get_parameters(self, config):
        arrays = [np.ones(4, "float32"), np.zeros(4, "float32"), np.zeros(4, "float32"), np.ones(4, "float32"), np.array(0)]
        return arrays if self.counter else arrays[:4]

    def fit(self, parameters, config):
        weight, bias, mean, variance, *count = parameters
        for _ in range(5):
            mean, variance = 0.9 * mean, 0.9 * variance + 0.1 * np.float32(self.scale**2)
        trained = [weight + np.float32(0.01), bias + np.float32(0.02), mean, variance, *[c + 5 for c in count]]
        return [np.asarray(new, old.dtype) for new, old in zip(trained, parameters, strict=True)], 10, {}

    def evaluate(self, parameters, config):
        with np.errstate(invalid="raise"):
            return float((parameters[0] / np.sqrt(parameters[3] + np.float32(1e-5))).mean()), 10, {}


def crowd(**options):
    return {f"{i}": Norm(0.04 + i / 100, **options) for i in range(3)}


FIRST = Norm().get_parameters({})
ADAPTIVE = {"initial_parameters": ndarrays_to_parameters(FIRST)}
STRATEGIES = {
    "FedAvgM": lambda **k: FedAvgM(server_momentum=0.9, **k),
    "FedYogi": lambda **k: FedYogi(**ADAPTIVE, **k),
    "FedAdam": lambda **k: FedAdam(**ADAPTIVE, **k),
    "FedAdagrad": lambda **k: FedAdagrad(**ADAPTIVE, **k),
    "FedBuff": lambda **k: FedBuff(buffer_size=3, concurrency=3, server_learning_rate=1.5, **k),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_thirty_rounds_with_batchnorm_have_finite_losses(name):
    run = run_locally(STRATEGIES[name](), crowd(), num_rounds=30)
    assert len(run.history.losses_distributed) == 30
    assert not run.history.failures
    mean = run_locally(FedAvg(**ADAPTIVE), crowd(), num_rounds=30).arrays
    assert all(np.array_equal(a, b) for a, b in zip(run.arrays[2:], mean[2:], strict=True))
    assert not np.array_equal(run.arrays[0], mean[0])


def test_a_chosen_array_is_averaged_and_no_other():
    run = run_locally(STRATEGIES["FedAvgM"](averaged=["0", 3], min_fit_clients=3), crowd(counter=False), num_rounds=4)
    mean = run_locally(FedAvg(min_fit_clients=3), crowd(counter=False), num_rounds=4)
    alike = [np.array_equal(a, b) for a, b in zip(run.arrays, mean.arrays, strict=True)]
    assert alike == [True, False, True, True]  # 2 stays 0 in both


def test_an_empty_choice_steps_everything():
    run = run_locally(FedAvgM(server_learning_rate=1.1, averaged=[], min_fit_clients=3), crowd(), num_rounds=1)
    mean = run_locally(FedAvg(min_fit_clients=3), crowd(), num_rounds=1)
    assert not np.array_equal(run.arrays[3], mean.arrays[3])


@pytest.mark.parametrize("name", ["FedAvgM", "FedAdam"])
def test_sums_that_workers_have_made_are_stepped_alike(name):
    def made(own):
        strategy, versions = STRATEGIES[name](min_fit_clients=5), []
        strategy.evaluate_fn = lambda number, arrays, config: versions.append([a.tobytes() for a in arrays])
        if own:
            kind = type(strategy)
            strategy.__class__ = type("Own", (kind,), {"aggregate_fit": lambda self, *a: kind.aggregate_fit(self, *a)})
        start_simulation(
            client_fn=lambda context: Norm(0.02 + int(context.node_id) / 50),
            num_clients=5,
            config=ServerConfig(num_rounds=4),
            strategy=strategy,
            backend="inline",
            progress=False,
        )
        return versions

    assert made(own=False) == made(own=True)


def schema(*names, shape=(4,), counter=True):
    specs = [TensorSpec(name, "F32", shape) for name in names]
    return Schema((*specs[:-1], specs[-1]._replace(dtype="I64", shape=())) if counter else tuple(specs))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (schema(*(f"layer1.0.bn1.{name}" for name in ORDER)), {2, 3, 4}),
        (schema("a/gamma:0", "a/beta:0", "a/moving_mean:0", "a/moving_variance:0", counter=False), {2, 3}),
        (schema("bn0_gamma", "bn0_beta", "bn0_running_mean", "bn0_running_var", counter=False), {2, 3}),
        (schema("params.Dense_0.kernel", "batch_stats.BatchNorm_0.mean", "batch_stats.b.var", counter=False), {1, 2}),
        (schema("running", "var", "running_mean_loss.weight", counter=False), set()),
        (schema("a", "b", "c"), set()),  # names decide where there are any
        (schema(*"01234"), {2, 3, 4}),
        (schema(*"012"), {0, 1, 2}),  # BatchNorm(affine=False)
        (schema(*"01234", counter=False), set()),
        (schema(*"01234", shape=(2, 2)), set()),
        (schema("0.bytes"), set()),
        (Params.of([]).schema, set()),
    ],
)
def test_names_decide_or_the_form_where_there_are_none(model, found):
    assert statistics_of(model) == found


def test_a_counter_that_has_become_float64_is_still_one():
    arrays = [np.zeros(3, "float32"), np.zeros(3, "float32"), np.array(5.0)]
    assert statistics_of(Params.of(arrays).schema) == {0, 1, 2}
    assert statistics_of(Params.of([np.zeros(3), np.zeros(3), np.array(5.0)]).schema) == set()


@pytest.mark.parametrize("given", [True, False], ids=["the strategy's", "a client's"])
@pytest.mark.parametrize(
    ("averaged", "said"),
    [
        (["*.var"], r"averaged= has '\*.var', which matches no array of the model; they are called '0', '1'"),
        ([5], r"averaged= has position 5; the model has 5 arrays"),
    ],
)
def test_what_matches_nothing_is_said_as_soon_as_the_model_is_known(averaged, said, given):
    strategy = FedAvgM(averaged=averaged, **(ADAPTIVE if given else {}))
    seen = []
    strategy.evaluate_fn = lambda *_: seen.append(1)
    with pytest.raises(StrategyError, match=said):
        run_locally(strategy, crowd(), num_rounds=1)
    assert not seen


@pytest.mark.parametrize(
    ("averaged", "said"),
    [("*.running_var", "a list of patterns"), (3, "a list of patterns"), ([1.5], "has 1.5"), ([True], "has True")],
)
def test_what_is_no_choice_is_said_when_the_strategy_is_made(averaged, said):
    with pytest.raises(TypeError, match=said):
        FedAvgM(averaged=averaged)
    with pytest.raises(TypeError, match=said):
        FedAdam(averaged=averaged, **ADAPTIVE)
    with pytest.raises(ValueError, match="the position -1"):
        FedBuff(averaged=[-1])
