"""What a strategy remembers, in a run: kept beside the version, never sent, gone on with after a resume."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters, parameters_to_ndarrays
from umbel.events import CohortChosen
from umbel.pace import Pace
from umbel.rounds.coordinator import Coordinator, Phase, Rules
from umbel.runtime.contents import FileContents
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.server.strategy import (
    Bucketing,
    CenteredClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedYogi,
    FLTrust,
    GeometricMedian,
    Krum,
    NearestNeighbourMixing,
)
from umbel.testing import run_locally
from umbel.training import NumPyClient

START = [np.zeros((4, 3), "float32"), np.ones(3, "float64"), np.array([10], "int64")]


class Learner(NumPyClient):
    """Goes a part of the way to a point of its own."""

    def __init__(self, place, fails_in=()):
        self.place, self.fails_in = place, fails_in

    def fit(self, parameters, config):
        if config["round"] in self.fails_in:
            raise RuntimeError("out of memory")
        return [(a + 0.25 * (self.place - a)).astype(a.dtype) for a in parameters], 1 + int(self.place), {}


def clients(count=5, **options):
    return {f"{i}": Learner(float(i), **options) for i in range(count)}


def keywords(**more):
    return {
        "initial_parameters": ndarrays_to_parameters([a.copy() for a in START]),
        "on_fit_config_fn": lambda number: {"round": number},
        "fraction_evaluate": 0.0,
        **more,
    }


STRATEGIES = {
    "FedAvgM": lambda: FedAvgM(server_momentum=0.9, **keywords()),
    "FedAdagrad": lambda: FedAdagrad(**keywords()),
    "FedAdam": lambda: FedAdam(**keywords()),
    "FedYogi": lambda: FedYogi(**keywords()),
    "CenteredClipping": lambda: CenteredClipping(clipping_radius=0.5, iterations=2, **keywords()),
    "Bucketing": lambda: Bucketing(CenteredClipping(clipping_radius=0.5, **keywords()), bucket_size=2),
    "GeometricMedian": lambda: GeometricMedian(**keywords()),
}
every_strategy = pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES.keys())


def bits(arrays):
    return [(a.dtype.name, a.shape, a.tobytes()) for a in arrays]


@every_strategy
@pytest.mark.parametrize("place", ["memory", "files"])
def test_a_run_that_goes_on_in_a_new_process_ends_in_the_same_bits(make, place, tmp_path):
    whole = run_locally(make(), clients(), num_rounds=5)

    contents = FileContents(tmp_path) if place == "files" else MemoryContents()
    first = run_locally(make(), clients(), num_rounds=2, store=MemoryStore(contents))
    state = copy.deepcopy(first.coordinator.state)
    state.num_rounds = 5
    second = make()  # a new process: nothing is left of the first strategy
    assert bits(first.arrays) != bits(whole.arrays)
    resumed = run_locally(
        second,
        clients(),
        num_rounds=5,
        store=MemoryStore(contents),
        coordinator=_between_rounds(first.coordinator, state),
    )
    assert bits(resumed.arrays) == bits(whole.arrays)


def _between_rounds(done, state):
    """The coordinator of a run that has ended, as one that waits for its next round."""
    state.phase, state.exchange, state.round, state.attempt = Phase.WAITING, "fit", state.completed + 1, 0
    return Coordinator(Rules(run="run", min_available=5, pace=done.rules.pace), state)


@every_strategy
def test_slots_lie_beside_their_version_and_go_with_it(make, tmp_path):
    run_locally(make(), clients(), num_rounds=3, store=MemoryStore(FileContents(tmp_path)))
    names = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert names[0] == "model-000003"
    assert all(name.startswith("model-000003+") for name in names[1:])
    assert not list(tmp_path.glob("*.part"))
    wanted = {"FedAvgM": 1, "FedAdagrad": 1, "FedAdam": 2, "FedYogi": 2, "CenteredClipping": 1, "Bucketing": 1}
    assert len(names) == 1 + wanted.get(type(make()).__name__, 0)


def test_a_round_that_makes_nothing_leaves_the_slots_as_they_were(tmp_path):
    strategy = FedAvgM(server_momentum=0.5, accept_failures=False, **keywords())
    spoilt = {**clients(2), "z": Learner(5.0, fails_in={2})}
    strategy.min_fit_clients = 3
    run = run_locally(strategy, spoilt, num_rounds=3, store=MemoryStore(FileContents(tmp_path)))
    straight = run_locally(strategy_of_two_rounds(), {**clients(2), "z": Learner(5.0)}, num_rounds=2)
    assert bits(run.arrays) == bits(straight.arrays)
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["model-000003", "model-000003+momentum"]


def strategy_of_two_rounds():
    return FedAvgM(server_momentum=0.5, **{**keywords(), "min_fit_clients": 3})


class Looks(FedAdam):
    """Reads the new model, and hands on what it was given."""

    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        assert parameters_to_ndarrays(parameters)[0].shape == (4, 3)
        return parameters, metrics


class Changes(FedAdam):
    """Puts something else in place of the new model."""

    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        return ndarrays_to_parameters([array * 2 for array in parameters_to_ndarrays(parameters)]), metrics


class Skips(FedAdam):
    """Has Umbel combine, and returns nothing of it in round 2."""

    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        parameters_to_ndarrays(parameters)
        return (None if server_round == 2 else parameters), metrics


def test_a_strategy_may_look_at_the_model_that_it_returns():
    looked = run_locally(Looks(**keywords()), clients(), num_rounds=3)
    assert bits(looked.arrays) == bits(run_locally(FedAdam(**keywords()), clients(), num_rounds=3).arrays)


def test_a_strategy_may_change_the_model_and_still_remembers(tmp_path):
    run_locally(Changes(**keywords()), clients(), num_rounds=2, store=MemoryStore(FileContents(tmp_path)))
    names = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert names == ["model-000002", "model-000002+m", "model-000002+v"]


def test_slots_of_a_version_that_never_came_are_gone(tmp_path):
    run_locally(Skips(**keywords()), clients(), num_rounds=2, store=MemoryStore(FileContents(tmp_path)))
    names = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert names == ["model-000001", "model-000001+m", "model-000001+v"]


# ---- rules in a run


def test_a_round_with_too_few_updates_is_void_and_the_run_goes_on():
    five = {**clients(4), "z": Learner(4.0, fails_in={2})}
    run = run_locally(Krum(num_malicious_clients=1, **keywords()), five, num_rounds=3)
    notes = [event.note for event in run.events if getattr(event, "note", "")]
    assert notes == ["Krum with f=1 needs 2·f + 3, which is 5 updates at least; there are 4; the model stays as it is"]
    assert run.coordinator.state.completed == 3
    two = run_locally(Krum(num_malicious_clients=1, **keywords()), clients(), num_rounds=2)
    assert bits(run.arrays) == bits(two.arrays)


def test_a_cohort_is_never_chosen_too_small_for_its_rule():
    strategy = Krum(num_malicious_clients=1, fraction_fit=0.1, **keywords())
    run = run_locally(strategy, clients(8), num_rounds=1)
    assert [len(event.clients) for event in run.events if isinstance(event, CohortChosen)] == [5]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Krum(num_malicious_clients=2, min_fit_clients=5), "and a cohort may be of 5; set min_fit_clients=7"),
        (lambda: Krum(num_malicious_clients=2, min_available_clients=6), "may be of 6"),
        (lambda: Krum(num_malicious_clients=1, pace=Pace(goal=3)), r"round closes with 3; set Pace\(goal=5\)"),
        (lambda: Krum(num_malicious_clients=-1), "0 or more"),
        (lambda: Bucketing(Krum(num_malicious_clients=1), bucket_size=0), "bucket_size=0; it is a whole number of updates"),
    ],
)
def test_a_strategy_that_could_not_work_is_refused_when_it_is_made(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_mixing_needs_a_rule():
    with pytest.raises(TypeError, match="Bucketing prepares updates for a robust rule; FedAvg has none"):
        Bucketing(FedAvg())


def test_buckets_are_drawn_anew_each_round_and_the_same_again_with_the_same_seed():
    def run(seed):
        strategy = Bucketing(FedMedian(**keywords()), bucket_size=2)
        return bits(run_locally(strategy, clients(), num_rounds=2, seed=seed).arrays)

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(6)}) > 1


def test_fltrust_is_asked_for_an_update_of_the_server_s_own():
    asked = []

    def root_fit(number, arrays):
        asked.append((number, [a.copy() for a in arrays]))
        return [(a + 0.5).astype(a.dtype) for a in arrays]

    run = run_locally(FLTrust(root_fit=root_fit, **keywords()), clients(), num_rounds=2)
    assert [number for number, _ in asked] == [1, 2]
    assert bits(asked[0][1]) == bits(START)
    step = np.concatenate([asked[1][1][i].ravel() - START[i].ravel() for i in (0, 1)])
    assert 0 < np.linalg.norm(step) <= np.linalg.norm(np.full(15, 0.5)) + 1e-6  # never longer than the server's own
    assert run.arrays[0].mean() > 0


def test_mixing_takes_the_other_strategy_as_it_is():
    strategy = NearestNeighbourMixing(Krum(num_malicious_clients=1, **keywords(fraction_fit=0.5)), num_malicious_clients=1)
    assert strategy.fraction_fit == 0.5
    assert strategy.num_fit_clients(20) == (10, 10)
    run = run_locally(strategy, clients(10), num_rounds=2)
    assert run.coordinator.state.completed == 2


def test_what_is_remembered_of_a_float32_model_that_an_override_makes_float64_goes_on():
    class Doubles(FedAvgM):
        def aggregate_fit(self, server_round, results, failures):
            made, metrics = super().aggregate_fit(server_round, results, failures)
            return ndarrays_to_parameters([a.astype("float64") for a in parameters_to_ndarrays(made)]), metrics

    def strategy(kind):
        start = ndarrays_to_parameters([np.zeros(3, "float32"), np.ones(2, "float32")])
        return kind(server_momentum=0.5, **keywords(initial_parameters=start))

    doubled = run_locally(strategy(Doubles), clients(), num_rounds=4).arrays
    assert [a.dtype for a in doubled] == ["float64"] * 2
    plain = run_locally(strategy(FedAvgM), clients(), num_rounds=4).arrays
    assert all(np.allclose(a, b, rtol=1e-5) for a, b in zip(doubled, plain, strict=True))
