"""Whole runs in this process: loop, owner, model and transport, also with strategies of people's own."""

from __future__ import annotations

import math
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from umbel.common import EvaluateIns, FitIns, GetPropertiesIns, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.errors import StrategyError
from umbel.events import ModelInitialized, TaskFailed
from umbel.pace import Pace
from umbel.runtime import run as loop
from umbel.runtime.contents import FileContents
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.stores.base import Unit
from umbel.runtime.stores.memory import MemoryStore
from umbel.server import Criterion
from umbel.server.strategy import FedAsync, FedAvg, FedAvgM, FedBuff, FLTrust, Strategy
from umbel.testing import run_locally
from umbel.training import NumPyClient

START = [np.zeros((4, 3), "float32"), np.zeros(3, "float64"), np.array([10], "int64")]


class Learner(NumPyClient):
    """Adds a number of its own to every array; `answer` replaces what `fit` returns."""

    def __init__(self, step=1.0, count=1, answer=None, fails_in=()):
        self.step, self.count, self.answer, self.fails_in = step, count, answer, fails_in
        self.seen = []

    def get_properties(self, config):
        return {"step": self.step}

    def get_parameters(self, config):
        return [a.copy() for a in START]

    def fit(self, parameters, config):
        self.seen.append(([a.copy() for a in parameters], config))
        if config.get("round") in self.fails_in:
            raise RuntimeError("out of memory")
        if self.answer is not None:
            return self.answer(parameters)
        return [(a + self.step).astype(a.dtype) for a in parameters], self.count, {"step": self.step}

    def evaluate(self, parameters, config):
        return float(parameters[0].mean()), self.count, {"accuracy": self.step / 8}


def two(**options):
    return {"a": Learner(1.0, 1, **options), "b": Learner(3.0, 3, **options)}


def fedavg(**options):
    return FedAvg(initial_parameters=ndarrays_to_parameters(START), on_fit_config_fn=lambda n: {"round": n}, **options)


def bits(run):
    return [(a.dtype.name, a.shape, a.tobytes()) for a in run.arrays]


# ---- the ordinary run


def test_two_clients_average_their_models_by_examples():
    run = run_locally(fedavg(), two(), num_rounds=2)
    assert [a.tolist() for a in run.arrays] == [[[5.0] * 3] * 4, [5.0] * 3, [14]]
    assert run.history.losses_distributed == [(1, 2.5), (2, 5.0)]
    assert run.history.metrics_distributed_fit == {"step": [(1, 2.5), (2, 2.5)]}
    assert run.history.metrics_distributed == {"accuracy": [(1, 0.3125), (2, 0.3125)]}
    assert run.history.failures == []


def test_without_initial_parameters_the_first_client_by_name_gives_them():
    run = run_locally(FedAvg(), {"b": Learner(3.0), "a": Learner(1.0)}, num_rounds=1)
    assert run.arrays[0].tolist() == [[2.0] * 3] * 4
    assert [event.source for event in run.events if isinstance(event, ModelInitialized)] == ["a"]


def test_a_client_without_parameters_is_passed_over():
    class Empty(Learner):
        def get_parameters(self, config):
            return []

    run = run_locally(FedAvg(), {"a": Empty(1.0), "b": Learner(3.0)})
    assert run.arrays[0].tolist() == [[2.0] * 3] * 4
    (said,) = [event for event in run.events if isinstance(event, TaskFailed)]
    assert (said.client, said.reason) == ("a", "empty")
    assert "get_parameters() returned no arrays" in said.text
    assert run.history.failures == []


def test_the_central_evaluation_is_asked_before_the_first_round_and_after_each():
    run = run_locally(fedavg(evaluate_fn=lambda n, arrays, _: (float(arrays[0].mean()), {"n": n})), two(), num_rounds=2)
    assert run.history.losses_centralized == [(0, 0.0), (1, 2.5), (2, 5.0)]
    assert run.history.metrics_centralized == {"n": [(0, 0), (1, 1), (2, 2)]}


def test_the_order_of_arrival_does_not_change_a_bit():
    rng = np.random.RandomState(0)
    steps = {name: float(step) for name, step in zip("abcde", rng.standard_normal(5), strict=True)}
    results = set()
    for names in list(permutations(steps))[::17]:
        run = run_locally(fedavg(), {name: Learner(steps[name], ord(name)) for name in names}, num_rounds=2)
        results.add(str(bits(run)))
    assert len(results) == 1


def test_the_same_seed_samples_the_same_clients_and_another_seed_others():
    def cohorts(seed):
        clients = {f"c{i}": Learner() for i in range(10)}
        run = run_locally(fedavg(fraction_fit=0.3), clients, num_rounds=4, seed=seed)
        return [event.clients for event in run.events if type(event).__name__ == "CohortChosen" and event.kind == "fit"]

    assert cohorts(1) == cohorts(1)
    assert cohorts(1) != cohorts(2)
    assert len(set(cohorts(1))) > 1


def test_no_rounds_leave_the_first_model():
    assert run_locally(fedavg(), two(), num_rounds=0).arrays[0].tolist() == START[0].tolist()


def test_only_the_present_model_is_kept():
    store = MemoryStore()
    run_locally(fedavg(), two(), num_rounds=3, store=store)
    contents = store.contents
    assert isinstance(contents, MemoryContents)
    assert list(contents._bytes) == ["model-000003"]


def test_files_give_the_bits_of_memory(tmp_path):
    on_disk = run_locally(fedavg(), two(), num_rounds=3, store=MemoryStore(FileContents(tmp_path)))
    assert bits(on_disk) == bits(run_locally(fedavg(), two(), num_rounds=3))
    assert [path.name for path in tmp_path.iterdir()] == ["model-000003.safetensors"]


# ---- what the door refuses does not touch the model


def spoilt(value):
    def answer(parameters):
        parameters[0][1, 1] = value
        return parameters, 1, {}

    return answer


REFUSED = {
    "NaN": (spoilt(math.nan), "array '0' contains nan"),
    "infinity": (spoilt(-math.inf), "array '0' contains -inf"),
    "one array too few": (lambda p: (p[:2], 1, {}), "returned 2 arrays, the model has 3"),
    "one array too many": (lambda p: ([*p, p[0]], 1, {}), "returned 4 arrays, the model has 3"),
    "another order": (lambda p: (list(p)[::-1], 1, {}), "returned array 0 with shape (1,)"),
    "a broadcastable shape": (lambda p: ([p[0][:1], *p[1:]], 1, {}), "with shape (1, 3), the model has (4, 3)"),
    "a scalar": (lambda p: ([0.0, *p[1:]], 1, {}), "with shape (), the model has (4, 3)"),
    "strings": (lambda p: ([p[0].astype(str), *p[1:]], 1, {}), "cannot travel"),
    "objects": (lambda p: ([p[0].astype(object), *p[1:]], 1, {}), "dtype object cannot travel"),
    "complex numbers": (lambda p: ([p[0] * 1j, *p[1:]], 1, {}), "dtype complex64 cannot travel"),
    "too large for float32": (lambda p: ([p[0] + np.float64(1e39), *p[1:]], 1, {}), "dtype there ends at 3.40282e+38"),
    "too large for int64": (lambda p: ([*p[:2], np.array([2**63], "uint64")], 1, {}), "dtype there ends at 9.22337e+18"),
    "a negative count": (lambda p: (p, -15, {}), "num_examples=-15; it must be from 0 to 10,000,000"),
    "a count above the cap": (lambda p: (p, 10**12, {}), "num_examples=1000000000000; it must be from 0"),
    "a NaN count": (lambda p: (p, math.nan, {}), "num_examples=nan; return a whole number"),
    "a pair": (lambda p: (p, 1), "returned a tuple of length 2; return the 3-tuple"),
    "nothing": (lambda p: None, "returned a NoneType"),
    "a list for a metric": (lambda p: (p, 1, {"confusion": [1, 2]}), "'confusion' is of type list"),
}


@pytest.mark.parametrize(("answer", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_reply_is_told_why_and_leaves_no_trace_in_the_model(answer, words):
    run = run_locally(fedavg(), {**two(), "evil": Learner(answer=answer)}, num_rounds=2)
    assert bits(run) == bits(run_locally(fedavg(), two(), num_rounds=2))
    notes = [note for note in run.history.failures if note.client == "evil" and note.kind == "fit"]
    assert [note.round for note in notes] == [1, 2]
    assert all(note.reason == "rejected" and words in note.text for note in notes)


def test_a_client_that_raises_stays_for_the_next_round():
    run = run_locally(fedavg(), {**two(), "c": Learner(9.0, fails_in=(1,))}, num_rounds=2)
    (note,) = run.history.failures
    assert (note.round, note.client, note.reason) == (1, "c", "raised")
    assert note.text.startswith("fit raised RuntimeError: out of memory (test_local_runs.py:")
    assert "Traceback" in note.detail
    assert run.arrays[0][0, 0] != run_locally(fedavg(), two(), num_rounds=2).arrays[0][0, 0]


def test_a_round_in_which_everyone_fails_keeps_the_model_and_counts():
    run = run_locally(fedavg(), two(fails_in=(1,)), num_rounds=2)
    assert run.arrays[0].tolist() == [[2.5] * 3] * 4
    assert len(run.history.failures) == 2


def test_examples_of_zero_for_all_keep_the_model():
    run = run_locally(fedavg(), {"a": Learner(1.0, 0), "b": Learner(3.0, 0)})
    assert run.arrays[0].tolist() == START[0].tolist()
    notes = [event.note for event in run.events if type(event).__name__ == "ExchangeClosed"]
    assert notes[0] == "every num_examples is 0; the model stays as it is"


@pytest.mark.parametrize("kind", [FedBuff, FedAsync])
def test_where_examples_do_not_count_none_of_them_keeps_no_model(kind):
    def trained(count):
        clients = {name: Learner(step, count) for name, step in (("a", 1.0), ("b", 3.0))}
        strategy = kind(concurrency=2, initial_parameters=ndarrays_to_parameters(START), **buffer)
        return bits(run_locally(strategy, clients, num_rounds=2))

    buffer = {"buffer_size": 2} if kind is FedBuff else {}
    assert trained(0) == trained(1)
    assert trained(0) != bits(run_locally(fedavg(), two(), num_rounds=0))


def test_failures_that_are_not_accepted_keep_the_model():
    run = run_locally(fedavg(accept_failures=False), {**two(), "c": Learner(fails_in=(1,))}, num_rounds=1)
    assert run.arrays[0].tolist() == START[0].tolist()


def test_integers_that_clients_answer_with_floats_become_float64():
    def floats(parameters):
        return [parameters[0], parameters[1], parameters[2] + 0.25], 1, {}

    run = run_locally(fedavg(), two(answer=floats), num_rounds=2)
    assert (run.arrays[2].dtype.name, run.arrays[2].tolist()) == ("float64", [10.5])


# ---- strategies of people's own


def test_a_strategy_that_saves_the_model_each_round():
    saved = []

    class Saving(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            parameters, metrics = super().aggregate_fit(server_round, results, failures)
            if parameters is not None:
                saved.append((server_round, parameters_to_ndarrays(parameters)[0][0, 0]))
            return parameters, {**metrics, "saved": True}

    run = run_locally(Saving(initial_parameters=ndarrays_to_parameters(START)), two(), num_rounds=2)
    assert saved == [(1, 2.5), (2, 5.0)]
    assert bits(run) == bits(run_locally(fedavg(), two(), num_rounds=2))
    assert run.history.metrics_distributed_fit["saved"] == [(1, True), (2, True)]


@pytest.mark.parametrize("place", ["memory", "files"])
def test_what_aggregate_fit_returned_is_the_version_that_it_became_whenever_it_is_read(place, tmp_path):
    seen = []

    class Keeping(FedAvgM):
        latest = None

        def aggregate_fit(self, server_round, results, failures):
            self.latest, metrics = super().aggregate_fit(server_round, results, failures)
            return self.latest, metrics

        def configure_fit(self, server_round, parameters, client_manager):
            if self.latest is not None:
                seen.append((parameters_to_ndarrays(self.latest)[0][0, 0], parameters_to_ndarrays(parameters)[0][0, 0]))
            return super().configure_fit(server_round, parameters, client_manager)

    def strategy(kind):
        return kind(server_momentum=0.5, initial_parameters=ndarrays_to_parameters(START))

    keeping = strategy(Keeping)
    store = MemoryStore(FileContents(tmp_path)) if place == "files" else None
    run = run_locally(keeping, two(), num_rounds=4, store=store)
    assert seen == [(2.5, 2.5), (6.25, 6.25), (10.625, 10.625)]
    assert bits(run) == bits(run_locally(strategy(FedAvgM), two(), num_rounds=4))
    assert parameters_to_ndarrays(keeping.latest)[0].tolist() == run.arrays[0].tolist()


def test_what_was_neither_read_nor_returned_in_its_round_says_so_and_changes_nothing():
    class Rejecting(FedAvgM):
        def aggregate_fit(self, server_round, results, failures):
            self.rejected, metrics = super().aggregate_fit(server_round, results, failures)
            return ndarrays_to_parameters([a + 1 for a in START]), metrics

    strategy = Rejecting(server_momentum=0.5, initial_parameters=ndarrays_to_parameters(START))
    store = MemoryStore()
    run_locally(strategy, two(), num_rounds=2, store=store)
    kept = dict(store.contents._bytes)
    with pytest.raises(StrategyError, match=r"in round 2 were neither read nor returned.*inside aggregate_fit\(\)"):
        parameters_to_ndarrays(strategy.rejected)
    assert store.contents._bytes == kept


def test_a_strategy_that_combines_by_itself_gets_what_its_clients_sent():
    class Longest(FedAvg):
        receives = "anything"  # what it makes need not be like the model either

        def aggregate_fit(self, server_round, results, failures):
            sent = [parameters_to_ndarrays(res.parameters) for _, res in results]
            return ndarrays_to_parameters(max(sent, key=len)), {"clients": len(results)}

    clients = {
        "a": Learner(answer=lambda p: ([np.full(7, math.nan)], 1, {})),
        "b": Learner(answer=lambda p: ([np.ones(2), np.zeros((2, 2), "int8")], 1, {})),
    }
    run = run_locally(Longest(initial_parameters=ndarrays_to_parameters(START), fraction_evaluate=0.0), clients)
    assert [a.tolist() for a in run.arrays] == [[1.0, 1.0], [[0, 0], [0, 0]]]
    assert run.history.metrics_distributed_fit == {"clients": [(1, 2)]}


class FromScratch(Strategy):
    """A strategy that derives from nothing but the interface; the largest step wins."""

    def initialize_parameters(self, client_manager):
        return ndarrays_to_parameters(START)

    def configure_fit(self, server_round, parameters, client_manager):
        return [(client, FitIns(parameters, {})) for client in client_manager.all().values()]

    def aggregate_fit(self, server_round, results, failures):
        best = max(results, key=lambda result: result[1].metrics["step"])
        return best[1].parameters, {"best": best[0].cid}

    def configure_evaluate(self, server_round, parameters, client_manager):
        return [(client, EvaluateIns(parameters, {})) for client in client_manager.sample(1)]

    def aggregate_evaluate(self, server_round, results, failures):
        return results[0][1].loss, {}

    def evaluate(self, server_round, parameters):
        return None


def test_a_strategy_from_scratch():
    run = run_locally(FromScratch(), {"a": Learner(1.0)}, num_rounds=2)
    assert run.arrays[0].tolist() == [[2.0] * 3] * 4
    assert run.history.metrics_distributed_fit == {"best": [(1, "a"), (2, "a")]}
    assert run.history.losses_distributed == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("nobody", [None, [], ()])
def test_a_strategy_may_skip_the_training_or_the_evaluation(nobody):
    class Idle(FromScratch):
        def configure_fit(self, server_round, parameters, client_manager):
            return nobody

        configure_evaluate = configure_fit

    run = run_locally(Idle(), {"a": Learner()}, num_rounds=3)
    assert run.arrays[0].tolist() == START[0].tolist()
    assert run.coordinator.state.completed == 3


def test_clients_may_get_parameters_of_their_own():
    class Personal(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            for number, (client, ins) in enumerate(super().configure_fit(server_round, parameters, client_manager)):
                own = [a + np.asarray(100 * number, a.dtype) for a in parameters_to_ndarrays(ins.parameters)]
                yield client, FitIns(ndarrays_to_parameters(own), {"number": number})

    clients = two()
    run = run_locally(Personal(initial_parameters=ndarrays_to_parameters(START)), clients)
    assert clients["a"].seen[0][0][0][0, 0] == 0
    assert clients["b"].seen[0][0][0][0, 0] == 100
    assert run.arrays[0][0, 0] == (1 + 3 * 103) / 4


def test_own_parameters_are_removed_once_their_round_is_over():
    class Personal(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            chosen = super().configure_fit(server_round, parameters, client_manager)
            return [(c, FitIns(ndarrays_to_parameters(parameters_to_ndarrays(parameters)), {})) for c, _ in chosen]

        def configure_evaluate(self, server_round, parameters, client_manager):
            chosen = super().configure_evaluate(server_round, parameters, client_manager)
            return [(c, EvaluateIns(ndarrays_to_parameters(parameters_to_ndarrays(parameters)), {})) for c, _ in chosen]

    store = MemoryStore()
    run_locally(Personal(initial_parameters=ndarrays_to_parameters(START)), two(), num_rounds=2, store=store)
    assert list(store.contents._bytes) == ["model-000002"]


def test_properties_can_be_asked_and_a_criterion_can_use_them():
    class Strong(Criterion):
        def select(self, client):
            return client.get_properties(GetPropertiesIns({})).properties["step"] > 2

    class Picky(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            chosen = client_manager.sample(1, criterion=Strong())
            return [(client, FitIns(parameters, {})) for client in chosen]

    run = run_locally(Picky(initial_parameters=ndarrays_to_parameters(START)), two(), num_rounds=1)
    assert run.arrays[0].tolist() == [[3.0] * 3] * 4


def test_a_strategy_that_chooses_somebody_who_is_not_there_is_told():
    class Dreaming(FromScratch):
        def configure_fit(self, server_round, parameters, client_manager):
            (client,) = client_manager.all().values()
            client.cid = "nobody"
            return [(client, FitIns(parameters, {}))]

    with pytest.raises(StrategyError, match=r"configure_fit\(\) chose client 'nobody', which is not present"):
        run_locally(Dreaming(), {"a": Learner()})


@pytest.mark.parametrize(
    ("method", "returned", "words"),
    [
        ("aggregate_fit", None, r"aggregate_fit\(\) returned None; return \(parameters or None, metrics\)"),
        ("aggregate_evaluate", None, r"aggregate_evaluate\(\) returned None; return \(loss, metrics\)"),
        ("aggregate_evaluate", (0.5, [1]), r"metrics are a dict, \{\} for none; got \[1\]"),
        ("evaluate", 0.5, r"evaluate\(\) returned 0.5; return \(loss, metrics\)"),
        ("initialize_parameters", START, r"initialize_parameters\(\) returned a list for parameters; return Par"),
        ("aggregate_fit", (START, {}), r"aggregate_fit\(\) returned a list for parameters; return Parameters, such as"),
    ],
)
def test_an_answer_that_no_round_can_use_is_named(method, returned, words):
    strategy = type("Wrong", (FromScratch,), {method: lambda self, *_: returned})()
    with pytest.raises(StrategyError, match=words):
        run_locally(strategy, {"a": Learner()})


def test_arrays_in_the_place_of_parameters_are_named():
    class Listing(FromScratch):
        def configure_fit(self, server_round, parameters, client_manager):
            return [(client, FitIns(START, {})) for client in client_manager.all().values()]

    with pytest.raises(StrategyError, match=r"configure_fit\(\) returned a list for parameters; return Parameters"):
        run_locally(Listing(), {"a": Learner()})
    assert bits(run_locally(FedAvg(initial_parameters=START), two())) == bits(run_locally(fedavg(), two()))


@pytest.mark.parametrize(
    ("keyword", "returned", "words"),
    [
        ("on_fit_config_fn", None, r"on_fit_config_fn\(\) returned None; return a dict, \{\} for none"),
        ("on_evaluate_config_fn", 3, r"on_evaluate_config_fn\(\) returned 3; return a dict"),
        ("evaluate_fn", 0.5, r"evaluate_fn\(\) returned 0.5; return \(loss, metrics\), or None"),
        ("evaluate_fn", (0.5, None), r"evaluate_fn\(\) returned \(0.5, None\); return"),
    ],
)
def test_what_an_owner_s_function_should_have_returned_is_said(keyword, returned, words):
    strategy = FedAvg(initial_parameters=ndarrays_to_parameters(START), **{keyword: lambda *_: returned})
    with pytest.raises(StrategyError, match=words):
        run_locally(strategy, two())


def test_a_strategy_that_wants_more_clients_than_there_are_is_told():
    with pytest.raises(StrategyError, match=r"^FedAvg: configure_fit\(\) asks for 20 clients, there are 2; have more"):
        run_locally(fedavg(min_fit_clients=20, min_available_clients=20), two())


def test_a_round_that_reached_its_goal_has_failures_only_of_those_that_failed():
    seen = []

    class Seeing(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            seen.append((len(results), [str(failure) for failure in failures]))
            return super().aggregate_fit(server_round, results, failures)

    def strategy(**keywords):
        return Seeing(initial_parameters=ndarrays_to_parameters(START), pace=Pace(goal=2), fraction_evaluate=0.0, **keywords)

    four = {name: Learner(1.0) for name in "abcd"}
    run = run_locally(strategy(accept_failures=False), four, num_rounds=2)
    assert seen == [(2, []), (2, [])]
    assert run.arrays[0][0, 0] == 2.0
    seen.clear()
    run = run_locally(strategy(), {"0": Learner(fails_in={None}), **four})
    assert [(count, [text.split(":")[0] for text in texts]) for count, texts in seen] == [(2, ["client 0"])]


def test_a_root_fit_that_forgets_to_return_what_it_has_trained_is_told():
    def in_place(number, arrays):
        for array in arrays:
            array += 1

    strategy = FLTrust(root_fit=in_place, initial_parameters=ndarrays_to_parameters(START))
    with pytest.raises(StrategyError, match=r"root_fit\(\) returned None; return the trained arrays"):
        run_locally(strategy, two())


def test_a_config_that_cannot_travel_is_named():
    with pytest.raises(StrategyError, match=r"configure_fit\(\) made a config that cannot travel: 'layers' is of type list"):
        run_locally(FedAvg(on_fit_config_fn=lambda n: {"layers": [1]}), two())


def test_what_the_strategy_raises_ends_the_run():
    def broken(number, arrays, config):
        raise ZeroDivisionError("no test data")

    with pytest.raises(ZeroDivisionError, match="no test data"):
        run_locally(fedavg(evaluate_fn=broken), two())


def test_a_straggler_is_not_waited_for_beyond_the_timeout():
    run = run_locally(fedavg(), two(), num_rounds=1, round_timeout=1e-9)
    assert {note.reason for note in run.history.failures} <= {"late"}
    assert run.coordinator.done


class ByRounds(MemoryStore):
    """Keeps the numbers of rounds whose state it is given; each takes a second of `clock`."""

    unit = Unit.ROUND

    def __init__(self, clock):
        super().__init__()
        self.clock, self.kept = clock, []

    def write(self, entries, snapshot=None):
        self.clock[0] += 1.0
        self.kept.append(snapshot.state.completed)


def test_keeping_rounds_that_are_short_takes_a_tenth_of_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    store = ByRounds(clock)

    class Counting(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            clock[0] += 0.5
            return super().configure_fit(server_round, parameters, client_manager)

    strategy = Counting(initial_parameters=ndarrays_to_parameters(START), fraction_evaluate=0.0)
    run_locally(strategy, two(), num_rounds=150, store=store)
    assert store.kept == [*range(101), 118, 136, 150]
