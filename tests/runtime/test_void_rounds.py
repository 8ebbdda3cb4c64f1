"""Finite updates whose combination is not finite: the step is given up, and nothing that it had begun is left."""

from __future__ import annotations

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from umbel.aggregators import Rule
from umbel.common import Code, FitRes, Status, ndarrays_to_parameters
from umbel.errors import NotFinite
from umbel.events import ExchangeClosed
from umbel.optimizers import Optimizer
from umbel.rounds.coordinator import Phase
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.server import ServerConfig
from umbel.server.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedBuff, FedMedian, FedYogi
from umbel.simulation import start_simulation
from umbel.testing import run_locally
from umbel.training import NumPyClient

LIE = {"float16": 65504, "bfloat16": 1e38, "float32": 1e38, "float64": 1e200}
LIE |= {"float8_e4m3fn": 448, "float8_e5m2": 57344, "float8_e4m3fnuz": 240, "float8_e5m2fnuz": 57344}


class Adds(NumPyClient):
    """Adds a number; in the rounds `lies` it answers with the number that LIE has for the model's dtype."""

    def __init__(self, step=0.25, lies=()):
        self.step, self.lies = step, lies

    def fit(self, parameters, config):
        weights, counter = parameters
        lie = config["round"] in self.lies
        new = np.full_like(weights, LIE[weights.dtype.name]) if lie else weights + np.asarray(self.step, weights.dtype)
        return [new.astype(weights.dtype), counter], 10, {"step": self.step}

    def evaluate(self, parameters, config):
        return float(parameters[0].astype("float64").mean()), 10, {}


def keywords(dtype="float32", **more):
    return {
        "initial_parameters": ndarrays_to_parameters([np.ones(4, dtype), np.array([3], "int64")]),
        "on_fit_config_fn": lambda number: {"round": number},
        "min_fit_clients": 3,
        **more,
    }


def people(*lies):
    return {"honest-1": Adds(0.25), "honest-2": Adds(0.5), "liar": Adds(lies=lies)}


def notes(run):
    return [event.void + event.note for event in run.events if isinstance(event, ExchangeClosed) and event.kind == "fit"]


def too_fast(number):
    """A learning rate that is too large for any dtype, in round 2."""
    return 1e308 if number == 2 else 0.5


STRATEGIES = {
    "sgd": lambda **k: FedAvgM(server_learning_rate=too_fast, **k),
    "momentum": lambda **k: FedAvgM(server_learning_rate=too_fast, server_momentum=0.9, **k),
    "adam": lambda **k: FedAdam(eta=too_fast, **k),
    "adagrad": lambda **k: FedAdagrad(eta=too_fast, **k),
    "yogi": lambda **k: FedYogi(eta=too_fast, **k),
    "buffered": lambda **k: FedBuff(buffer_size=3, concurrency=3, server_learning_rate=too_fast, **k),
}


@pytest.mark.parametrize("dtype", LIE)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_void_round_leaves_model_and_slots_bit_for_bit(name, dtype, tmp_path):
    strategy, seen = STRATEGIES[name](**keywords(np.dtype(getattr(ml_dtypes, dtype, dtype)))), []

    def look(number, arrays, config):
        seen.append([(path.name, path.read_bytes()) for path in sorted(tmp_path.glob("*model-*"))])

    strategy.evaluate_fn = look
    run = run_locally(strategy, people(2), num_rounds=3, store=MemoryStore(FileContents(tmp_path)))
    assert [note.startswith("the round is void") for note in notes(run)] == [False, True, False]
    before = [entry for entry in seen[1] if entry[0].startswith("model-000001")]  # version 0 goes once the step counts
    assert len(before) == 1 + len(strategy.algorithm().slots)
    assert seen[2] == before
    assert np.isfinite(run.arrays[0].astype("float64")).all()
    assert run.history.losses_distributed[1][1] == run.history.losses_distributed[0][1]


def test_the_updates_that_stand_out_are_named_with_their_norm_the_median_and_the_remedy():
    run = run_locally(FedAvgM(server_learning_rate=40.0, **keywords()), people(1), num_rounds=1)
    (note,) = notes(run)
    assert "the next version would contain inf in array '0' (float32)" in note
    assert "Of 3 updates this one stands out: 'liar' with a norm of 2e+38 (the median is 1)" in note
    assert 'FedAvgM(max_update_norm="auto") refuses such updates, and so does max_update_norm= with a number' in note


def test_where_nobody_stands_out_it_is_the_learning_rate():
    run = run_locally(FedAvgM(server_learning_rate=1e40, **keywords()), people(), num_rounds=1)
    (note,) = notes(run)
    assert "None of 3 updates stands out: the largest norm is 1, of 'honest-2', and the median 0.5" in note


def test_three_void_rounds_in_a_row_end_the_run_and_others_between_them_do_not():
    strategy = FedAvgM(server_learning_rate=40.0, **keywords())
    run = run_locally(strategy, people(1, 2, 4, 5, 7), num_rounds=7)
    assert run.coordinator.state.ended.error == ""
    run = run_locally(strategy, people(2, 3, 4), num_rounds=7)
    ended = run.coordinator.state.ended
    assert run.coordinator.state.phase is Phase.DONE
    assert (ended.error, ended.rounds) == ("NotFinite", 3)
    assert "3 rounds in a row were void, round 4 the last of them" in ended.why
    assert run.coordinator.state.version == 1


def client_fn(context):
    return Adds(lies=(1, 2, 3) if context.node_id == "2" else ())


@pytest.mark.parametrize("own", [False, True], ids=["folded by workers", "each by itself"])
def test_a_simulation_names_the_update_too_and_ends_with_an_error(own):
    class Own(FedAvgM):
        def aggregate_fit(self, server_round, results, failures):
            return super().aggregate_fit(server_round, results, failures)

    strategy = (Own if own else FedAvgM)(server_learning_rate=40.0, **keywords())
    with pytest.raises(NotFinite, match=r"round 3 the last of them.*this one stands out: '2' with a norm of 2e\+38"):
        start_simulation(
            client_fn=client_fn,
            num_clients=3,
            config=ServerConfig(num_rounds=5),
            strategy=strategy,
            backend="inline",
            progress=False,
        )


def test_a_strategy_called_by_hand_says_so_and_its_memory_stays():
    strategy = FedAdam(**keywords())

    def results(value):
        arrays = [np.full(4, value, "float32"), np.array([3], "int64")]
        return [(SimpleNamespace(cid="a"), FitRes(Status(Code.OK), ndarrays_to_parameters(arrays), 1, {}))]

    strategy.aggregate_fit(1, results(2.0), [])[0].arrays()
    before = {name: slot.to_bytes() for name, slot in strategy._standalone.slots.items()}
    with pytest.raises(NotFinite, match="what the server remembers as 'v' would contain inf in array '0'"):
        strategy.aggregate_fit(2, results(1e30), [])[0].arrays()
    assert {name: slot.to_bytes() for name, slot in strategy._standalone.slots.items()} == before


def with_part(**part):
    class Mine(FedAvg):
        def algorithm(self):
            import dataclasses

            return dataclasses.replace(super().algorithm(), **part)

    return Mine(**keywords())


@pytest.mark.parametrize(
    "part",
    [
        {"optimizer": Optimizer(lambda number, old, combined, slots: (combined * np.float32(np.nan), ()))},
        {"optimizer": Optimizer(lambda number, old, combined, slots: (combined, (combined * np.nan,)), ("mine",))},
        {"aggregator": Rule("nothing", 1, "an update", plan=lambda cohort: np.full((1, cohort.count), np.nan))},
        {"aggregator": Rule("nothing", 1, "an update", reduce=lambda rows: rows[0] * np.nan)},
    ],
    ids=["step", "slot", "plan", "reduction"],
)
def test_parts_of_somebody_s_own_are_checked_as_well(part):
    run = run_locally(with_part(**part), people(), num_rounds=1)
    assert notes(run)[0].startswith("the round is void")
    assert run.coordinator.state.version == 0


def test_an_integer_that_would_be_made_of_a_nan_is_noticed():
    rule = Rule("nothing", 1, "an update", reduce=lambda rows: np.where(rows[0] == 3, np.nan, rows[0]))
    run = run_locally(with_part(aggregator=rule), people(), num_rounds=1)
    assert "an array of integers would be made of nan" in notes(run)[0]


def test_a_median_of_what_is_finite_stays():
    run = run_locally(FedMedian(**keywords()), people(1, 2), num_rounds=2)
    assert notes(run) == ["", ""]
