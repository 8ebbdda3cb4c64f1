"""Strategies whose rounds have several exchanges: what is asked, what the later ones are told, and what a resume does."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from umbel.common import EvaluateIns, FitIns, GetPropertiesIns, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.errors import StrategyError
from umbel.events import ExchangeClosed
from umbel.rounds.coordinator import Rules
from umbel.runtime.contents import FileContents
from umbel.runtime.resume import restore
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.sql import SqlStore
from umbel.server import ServerConfig
from umbel.server.exchanges import FIT, Exchange, Kind, To
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation
from umbel.strategies.classic.adapter import host_of
from umbel.testing import run_locally
from umbel.training import NumPyClient

sys.path.insert(0, str(Path(__file__).parents[1] / "system" / "programs"))

from masked import DTYPES, Masked
from member import Gates, Member, initial

COHORT = {"min_fit_clients": 3, "min_evaluate_clients": 3, "min_available_clients": 3}


class Sized(NumPyClient):
    def __init__(self, examples):
        self.examples = examples

    def get_properties(self, config):
        return {"examples": self.examples}

    def fit(self, parameters, config):
        return [array + self.examples for array in parameters], 1, {}


class Largest(FedAvg):
    """Of the clients that are there, the two with the most examples train."""

    exchanges = (Exchange("sizes", Kind.PROPERTIES), FIT)

    def configure_exchange(self, exchange, server_round, parameters, client_manager, answers):
        if exchange == "sizes":
            return [(client, GetPropertiesIns({})) for client in client_manager.all().values()]
        by_size = sorted(answers["sizes"], key=lambda answer: -answer[1].properties["examples"])
        return [(client, FitIns(parameters, {})) for client, _ in by_size[:2]]


def start(**more):
    return {"initial_parameters": ndarrays_to_parameters([np.zeros(2)]), "fraction_evaluate": 0.0, **more}


def closed(run):
    return [(event.kind, event.results) for event in run.events if isinstance(event, ExchangeClosed)]


def test_what_clients_answer_decides_who_trains():
    run = run_locally(Largest(**start()), {str(n): Sized(n) for n in (3, 9, 1, 5)}, num_rounds=2)
    assert closed(run) == [("sizes", 4), ("fit", 2)] * 2
    assert run.arrays[0].tolist() == [14.0, 14.0]


def test_the_wrong_question_for_an_exchange_is_refused():
    class Wrong(Largest):
        def configure_exchange(self, exchange, server_round, parameters, client_manager, answers):
            return [(client, EvaluateIns(parameters, {})) for client in client_manager.all().values()]

    with pytest.raises(StrategyError, match=r"made a EvaluateIns for the exchange 'sizes'; .* with GetPropertiesIns"):
        run_locally(Wrong(**start()), {"a": Sized(1)})


class Drafts(FedAvg):
    """Clients train twice: the second time on the sum of what the first time has made, which has one array more."""

    exchanges = (Exchange("draft", Kind.FIT), FIT.among(To.SURVIVORS))

    def configure_exchange(self, exchange, server_round, parameters, client_manager, answers):
        if exchange == "draft":
            return [(client, FitIns(parameters, {"extra": True})) for client in client_manager.all().values()]
        drafts = [parameters_to_ndarrays(res.parameters) for _, res in answers["draft"]]
        given = ndarrays_to_parameters([sum(arrays) for arrays in zip(*drafts, strict=True)][:1])
        return [(client, FitIns(given, {})) for client, _ in answers["draft"]]


class Drafted(NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1, *([np.arange(3)] if "extra" in config else [])], 1, {}


def test_arrays_may_be_answers_of_any_form_and_no_file_of_theirs_is_left(tmp_path):
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'runs.sqlite'}")) as database:
        database.add("run", {})
        store = SqlStore(database, "run", FileContents(tmp_path / "run"))
        run = run_locally(Drafts(**start()), {"a": Drafted(), "b": Drafted()}, num_rounds=3, store=store)
        store.close()
    assert run.arrays[0].tolist() == [21.0, 21.0]  # 0 → 2·1 + 1 = 3 → 2·4 + 1 = 9 → 21
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"journal.mark", "model-000003.safetensors"}


# ---- keys → fit → unmask


def members(folder, **raises):
    """Three of them; `a=["fit.1"]` says what fails."""
    (folder / "gates").mkdir(exist_ok=True)
    return {name: Member(name, Gates(folder / "gates", name, []), size=50, raises=raises.get(name)) for name in "abc"}


def masked(**more):
    config = {"on_fit_config_fn": lambda n: {"round": n}, "on_evaluate_config_fn": lambda n: {"round": n}}
    return Masked(initial_parameters=ndarrays_to_parameters(initial(50)), **COHORT, **config, **more)


def mean_of(folder, names, rounds):
    """What the members would make in the clear, in fixed point."""
    model = initial(50)
    for number in range(1, rounds + 1):
        trained = [members(folder)[name].fit([a.copy() for a in model], {"round": number})[0] for name in names]
        model = [np.mean([np.float64(each[i]) for each in trained], axis=0) for i in range(len(model))]
        model = [(np.rint(a) if dtype == "int64" else a).astype(dtype) for a, dtype in zip(model, DTYPES, strict=True)]
    return model


def test_masks_cancel(tmp_path):
    run = run_locally(masked(), members(tmp_path), num_rounds=2)
    assert closed(run) == [("keys", 3), ("unmask", 3), ("fit", 3), ("evaluate", 3)] * 2  # a step closes "fit"
    for made, wanted in zip(run.arrays, mean_of(tmp_path, "abc", 2), strict=True):
        assert np.allclose(made.astype("float64"), wanted.astype("float64"), atol=2e-3 if made.dtype == "float16" else 1e-5)


def test_the_survivors_tell_the_masks_of_who_has_not_answered(tmp_path):
    run = run_locally(masked(), members(tmp_path, b=["fit.1"]))
    assert closed(run) == [("keys", 3), ("unmask", 2), ("fit", 2), ("evaluate", 3)]
    assert run.history.metrics_distributed_fit == {"gone": [(1, 1)], "unmasked": [(1, 2)]}
    for made, wanted in zip(run.arrays, mean_of(tmp_path, "ac", 1), strict=True):
        assert np.allclose(made.astype("float64"), wanted.astype("float64"), atol=2e-3 if made.dtype == "float16" else 1e-5)


def test_who_has_no_key_does_not_train_and_where_a_mask_is_not_told_the_model_stays(tmp_path):
    run = run_locally(masked(), members(tmp_path, a=["keys.1"], b=["fit.1"], c=["unmask.1"]))
    assert closed(run) == [("keys", 2), ("unmask", 0), ("fit", 1), ("evaluate", 3)]
    assert [array.tolist() for array in run.arrays] == [array.tolist() for array in initial(50)]


class Dies(SqlStore):
    """Ends its process, so to say, after so many inputs."""

    def __init__(self, *where, after):
        super().__init__(*where)
        self.after = after

    def write(self, entries, snapshot=None):
        for place, entry in enumerate(entries, 1):
            self.after -= 1
            if not self.after:
                super().write(entries[:place])
                raise SystemExit(str(entry.event))
        super().write(entries, snapshot)


def carry_on(folder, asked, after=0):
    with contextlib.closing(Database(f"sqlite:///{folder / 'runs.sqlite'}")) as database:
        if not database.runs():
            database.add("run", {})
        strategy, store = masked(), Dies(database, "run", FileContents(folder / "run"), after=after)
        rules = Rules(run="run", min_available=3, pace=strategy.pace, exchanges=host_of(strategy).declared.exchanges)
        found = restore(store.load(), rules, 2)
        try:
            return run_locally(strategy, asked, num_rounds=2, store=store, coordinator=found.coordinator)
        finally:
            store.close()


def test_a_run_that_dies_after_any_input_goes_on_in_the_middle_of_its_round(tmp_path):
    whole, after = run_locally(masked(), members(tmp_path), num_rounds=2), 0
    while True:
        after += 1
        folder = tmp_path / str(after)
        folder.mkdir()
        try:
            carry_on(folder, members(tmp_path), after)
        except SystemExit:
            again = carry_on(folder, members(tmp_path))
            assert [a.tobytes() for a in again.arrays] == [a.tobytes() for a in whole.arrays], f"after {after} inputs"
            left = {path.name for path in (folder / "run").iterdir()}
            assert left == {"journal.mark", "model-000002.safetensors"}, f"after {after} inputs"
        else:
            break
    assert after > 30


def simulated(folder, backend, **options):
    (folder / "gates").mkdir(exist_ok=True)
    client_fn = partial(_of_the_population, str(folder / "gates"))
    config = ServerConfig(num_rounds=2)
    return start_simulation(
        client_fn=client_fn, num_clients=3, config=config, strategy=masked(), backend=backend, progress=False, **options
    )


def _of_the_population(gates, context):
    return Member(context.node_id, Gates(gates, context.node_id, []), size=50)


def test_a_simulation_asks_its_clients_in_every_exchange(tmp_path):
    history = simulated(tmp_path, "inline")
    assert history.metrics_distributed_fit == {"gone": [(1, 0), (2, 0)], "unmasked": [(1, 3), (2, 3)]}
    assert simulated(tmp_path, "inline", store=tmp_path / "kept") == history
    assert simulated(tmp_path, "inline", durations=lambda client, number: 1.0 + int(client)) == history


@pytest.mark.system
@pytest.mark.parametrize("given", [None, 3, FIT, ("fit",), (each for each in (FIT,)), lambda self: (FIT,)])
def test_exchanges_that_are_no_list_of_exchanges_are_named(given):
    class Odd(FedAvg):
        exchanges = given

    with pytest.raises(StrategyError, match=r"Odd.exchanges is .*; it is a list of exchanges, such as \[keys, FIT\]"):
        host_of(Odd())


def test_an_aggregate_exchanges_that_returns_nonsense_is_called_by_its_name():
    class Odd(FedAvg):
        def aggregate_exchanges(self, server_round, results, failures, answers):
            return None

    made = Odd(initial_parameters=ndarrays_to_parameters([np.zeros(2)]), fraction_evaluate=0.0)
    with pytest.raises(StrategyError, match=r"aggregate_exchanges\(\) returned None; return \(parameters or None, metrics"):
        run_locally(made, {"a": Sized(1), "b": Sized(2)}, num_rounds=1)


def test_in_worker_processes_the_exchanges_end_in_the_same_numbers(tmp_path):
    assert simulated(tmp_path, "processes", workers=2) == simulated(tmp_path, "inline")
