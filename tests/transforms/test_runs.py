"""Transforms in whole runs: what clients and strategies see of them, and what is left when a run goes on in the middle."""

from __future__ import annotations

import copy
import tracemalloc

import numpy as np
import pytest

import umbel as fl
from umbel.common import ndarrays_to_parameters
from umbel.errors import StrategyError
from umbel.events import TaskFailed
from umbel.params import Params
from umbel.rounds.coordinator import Coordinator, Phase
from umbel.rounds.messages import Failure, FailureKind, Kind
from umbel.runtime.contents import FileContents
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.server import Pace
from umbel.server.strategy import FedAdam, FedAvg, FedAvgM, FedBuff, Krum, QFedAvg
from umbel.simulation import start_simulation
from umbel.testing import run_locally
from umbel.training import Encoding, run_task
from umbel.transforms import Applied, Reader, Transform, cast, chain, clip, differences, int8, register, top_k

SHAPES = ((300, 40), (40,), ())
BOX = {
    "differences": differences(),
    "clip": clip(0.5),
    "fp16": cast("fp16"),
    "int8": chain(clip(0.5), int8(block=256)),
    "top_k": top_k(0.05),
}


class Trains(fl.client.NumPyClient):
    """Goes a part of the way to a model of its own, in the arrays that it is given; counts in its state."""

    def __init__(self, name, state=None):
        rng = np.random.RandomState(int(name))
        self.best = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
        self.examples, self.state = 1 + int(name), {} if state is None else state

    def fit(self, parameters, config):
        self.state["fits"] = int(self.state.get("fits", 0)) + 1
        for array, best in zip(parameters, self.best, strict=False):
            array += np.float32(0.125) * (best - array)
        parameters[-1] += self.examples
        return parameters, self.examples, {"names": ",".join(sorted(self.state)), "loss": 1.0}


def initial(dtype="float32"):
    return ndarrays_to_parameters([*(np.full(shape, 5, dtype) for shape in SHAPES), np.array([7])])


def strategy(transform=None, cls=FedAvg, **more):
    return cls(fraction_evaluate=0.0, transform=transform, initial_parameters=initial(), **more)


def locally(made, clients=4, rounds=3, **more):
    return run_locally(made, {str(i): Trains(i) for i in range(clients)}, num_rounds=rounds, **more)


def simulated(make, clients=4, rounds=3, **more):
    """The last version, and the History."""
    seen = []
    made = make(evaluate_fn=lambda number, arrays, _: (0.0, seen.append([array.copy() for array in arrays]) or {}))
    history = start_simulation(
        client_fn=lambda context: Trains(context.node_id, context.state),
        num_clients=clients,
        config=fl.server.ServerConfig(num_rounds=rounds),
        strategy=made,
        **{"backend": "inline", **more},
    )
    return seen[-1], history


def bits(arrays):
    return [array.tobytes() for array in arrays]


def moved(arrays, before):
    return np.sqrt(sum(np.sum((a.astype(float) - b.astype(float)) ** 2) for a, b in zip(arrays, before, strict=False)))


def started():
    return initial().arrays()[:3]


# ---- what they do


@pytest.mark.parametrize("transform", BOX.values(), ids=BOX)
def test_updates_that_travel_and_updates_that_are_folded_give_the_same_bits(transform):
    travelled = locally(strategy(transform))
    folded, history = simulated(lambda **more: strategy(transform, **more))
    assert not history.failures
    assert bits(travelled.arrays) == bits(folded)
    assert travelled.arrays[3] != 7


def test_differences_alone_change_nothing():
    assert bits(locally(strategy(differences())).arrays) == bits(locally(strategy()).arrays)


@pytest.mark.parametrize("transform", [clip(0.5), chain(clip(0.5), int8()), chain(clip(0.5), top_k(0.1))])
def test_clip_is_what_its_docstring_says(transform):
    whole = locally(strategy(), rounds=1)
    assert moved(whole.arrays[:3], started()) > 50
    assert moved(locally(strategy(transform), rounds=1).arrays[:3], started()) <= 0.5 * (1 + 1e-3)


@pytest.mark.parametrize("transform", [chain(clip(0.5), int8()), chain(clip(0.5), top_k(0.05))], ids=["int8", "top_k"])
def test_the_servers_memory_does_not_grow_with_the_cohort(transform, tmp_path, monkeypatch):
    """Of updates in files; what a client's own memory needs is not the server's, and left out."""
    size = 2**21

    class Large(fl.client.NumPyClient):
        def fit(self, parameters, config):
            return [parameters[0] + np.float32(1)], 1, {}

    def peak(clients, transform):
        made = FedAvg(
            fraction_evaluate=0.0,
            transform=transform,
            initial_parameters=ndarrays_to_parameters([np.zeros(size // 4, "float32")]),
        )
        store = MemoryStore(FileContents(tmp_path / f"{clients}{transform}"))
        tracemalloc.start()
        run_locally(made, {str(i): Large() for i in range(clients)}, store=store)
        tracemalloc.stop()
        return peaks.pop()

    def measured(self, number, results, failures):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        made, metrics = aggregate_fit(self, number, results, failures)
        for _ in made.stream()[1]:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
        return made, metrics

    aggregate_fit, peaks = FedAvg.aggregate_fit, []
    monkeypatch.setattr(FedAvg, "aggregate_fit", measured)
    monkeypatch.setattr(FedAvg, "aggregate_fit", measured)
    assert peak(24, transform) < 24 * size / 4  # blocks of two threads; all 24 updates are 50 MB


def test_error_feedback_comes_to_where_plain_averaging_comes():
    whole, thin = locally(strategy(), rounds=60), locally(strategy(top_k(0.3)), rounds=60)
    assert moved(thin.arrays[:3], whole.arrays[:3]) < 0.05 * moved(whole.arrays[:3], started())


# ---- who sees what


def test_strategies_of_ones_own_see_updates_of_the_models_form():
    class Looks(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            seen.append([(a.dtype.name, a.shape) for a in results[0][1].parameters.arrays()])
            return super().aggregate_fit(server_round, results, failures)

    seen = []
    looked = locally(strategy(BOX["int8"], Looks))
    assert seen == 3 * [[("float32", (300, 40)), ("float32", (40,)), ("float32", ()), ("int64", (1,))]]
    assert not [event for event in looked.events if isinstance(event, TaskFailed)]
    assert bits(looked.arrays) == bits(locally(strategy(BOX["int8"])).arrays)
    assert bits(simulated(lambda **more: strategy(BOX["int8"], Looks, **more))[0]) == bits(looked.arrays)


@pytest.mark.parametrize("cls", [FedAdam, FedAvgM, QFedAvg, Krum])
def test_other_strategies_take_transforms_too(cls):
    more = {"num_malicious_clients": 0} if cls is Krum else {}
    made = locally(strategy(cast("fp16"), cls, **more), clients=5)
    assert not [event for event in made.events if isinstance(event, TaskFailed)]
    assert moved(made.arrays[:3], locally(strategy(None, cls, **more), clients=5).arrays[:3]) < 0.1
    assert moved(made.arrays[:3], started()) > 0.01


def test_updates_from_older_versions_are_differences_to_those():
    seconds = lambda client, number: 1 + int(client) * 0.75  # noqa: E731
    buffered = lambda transform: lambda **more: strategy(transform, FedBuff, buffer_size=2, concurrency=4, **more)  # noqa: E731
    plain, _ = simulated(buffered(None), rounds=8, durations=seconds)
    there, history = simulated(buffered(differences()), rounds=8, durations=seconds)
    assert not history.failures
    assert bits(there) == bits(plain)


def test_the_memory_of_a_transform_is_not_in_the_users_state():
    there, history = simulated(lambda **more: strategy(top_k(0.1), fit_metrics_aggregation_fn=names, **more))
    assert {value for _, value in history.metrics_distributed_fit["names"]} == {"fits"}
    assert bits(there) == bits(locally(strategy(top_k(0.1))).arrays)


def names(reports):
    return {"names": " ".join(sorted({metrics["names"] for _, metrics in reports}))}


# ---- what is wrong


class Wrong(fl.client.NumPyClient):
    def __init__(self, returns):
        self.returns = returns

    def fit(self, parameters, config):
        return self.returns(parameters), 1, {}


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (lambda p: p[:2], "fit() returned 2 arrays, the model has 4 (missing '2', shape ())"),
        (lambda p: [p[0] * np.nan, *p[1:]], "array 0 contains nan; only finite values"),
        (lambda p: [*p[:3], p[3] + 0.5], "array 3 as float64, the model has int64 there"),
    ],
)
def test_a_clients_mistake_is_its_own_failure_in_words(returns, words):
    clients = {"0": Trains("0"), "1": Trains("1"), "2": Wrong(returns)}
    run = run_locally(strategy(int8()), clients, num_rounds=1)
    (failed,) = (event for event in run.events if isinstance(event, TaskFailed))
    assert failed.client == "2"
    assert words in failed.text
    assert moved(run.arrays[:3], started()) > 0.1


def test_a_client_that_does_not_know_a_transform_says_which_and_what_to_do():
    base = Params.of(initial().arrays())
    unknown = Encoding((Applied("differences"), Applied("rotated")), base, {}, 7, "0", 1)
    failure = run_task(Trains("0").to_client(), Kind.FIT, initial().arrays(), {}, unknown)
    assert failure == Failure(
        FailureKind.REJECTED,
        "the server asks for the transform 'rotated', which this client does not know. Import the module that registers it "
        "before the client starts, or update umbel here",
    )


def test_a_transform_of_ones_own_that_raises_is_named():
    @register
    def raising() -> Transform:
        def encode(update, base, site):
            raise RuntimeError("no more")

        return Transform("raising", encode=encode)

    run = locally(strategy(raising()), rounds=1)
    texts = {event.text.partition(" (")[0] for event in run.events if isinstance(event, TaskFailed)}
    assert texts == {"encode() of raising raised RuntimeError: no more"}


@register
def spoilt() -> Transform:
    """Its server's half raises."""
    return Transform("spoilt", decode=lambda reader, arrival: Reader(arrival.layout, lambda *_: 1 / 0))


@pytest.mark.parametrize(
    ("half", "words"),
    [
        (None, "encode() of careless returned a NoneType; return an Update"),
        (3, "encode() of careless returned a int; return an Update"),
        ({"difference": [[1.0]]}, "encode() of careless made a list in 'difference'; a part is a list of arrays"),
    ],
)
def test_an_encode_that_returns_nonsense_is_named(half, words):
    @register
    def careless() -> Transform:
        def encode(update, base, site):
            return update._replace(parts=half) if isinstance(half, dict) else half

        return Transform("careless", encode=encode)

    run = locally(strategy(careless()), clients=2, rounds=1)
    assert next(event.text for event in run.events if isinstance(event, TaskFailed)).startswith(words)


def test_a_decode_that_raises_fails_the_task_and_ends_no_worker():
    _, history = simulated(lambda **more: strategy(spoilt(), **more), clients=2, rounds=1)
    assert {failure.text.partition(" (")[0] for failure in history.failures} == {
        "decode() of spoilt raised ZeroDivisionError: division by zero"
    }


def test_transforms_of_a_model_without_arrays_end_the_run_in_words():
    class Counts(fl.client.NumPyClient):
        def fit(self, parameters, config):
            return [np.ones(3)], 1, {}

    with pytest.raises(StrategyError, match="no client has parameters to begin with; give the strategy initial_parameters="):
        run_locally(FedAvg(fraction_evaluate=0.0, transform=int8()), {"0": Counts(), "1": Counts()}, num_rounds=1)


# ---- facts, finish and going on


@register
def halving(norm: float) -> Transform:
    """A clip whose norm halves from round to round, and a mark on the mean by the place of its coordinates."""

    def encode(update, base, site):
        bound = chain(clip(site.facts["norm"])).links[1]
        return bound.encode(update, base, site)

    def finish(block, start, totals, facts):
        return block + 1e-3 * facts["norm"] * np.cos(np.arange(start, start + block.size)) * totals.updates

    def advance(facts, totals):
        return {"norm": facts["norm"] / 2, "rounds": facts["rounds"] + 1}

    return Transform(
        "halving", {"norm": norm}, encode=encode, finish=finish, advance=advance, facts={"norm": norm, "rounds": 0}
    )


def between_rounds(done, rounds):
    """The coordinator of a run that has ended, as one that waits for its next round."""
    state = copy.deepcopy(done.coordinator.state)
    state.num_rounds, state.phase, state.exchange = rounds, Phase.WAITING, done.coordinator.rules.exchanges[0].name
    state.round, state.attempt, state.needed = state.completed + 1, 0, 1
    return Coordinator(done.coordinator.rules, state)


def test_facts_go_with_the_version_to_clients_and_to_the_step_and_come_back_on_resume():
    made = strategy(halving(8.0))
    whole, contents = locally(made, rounds=4), MemoryContents()
    first = locally(made, rounds=2, store=MemoryStore(contents))
    again = locally(made, rounds=4, store=MemoryStore(contents), coordinator=between_rounds(first, 4))
    assert bits(again.arrays) == bits(whole.arrays)
    one = locally(made, rounds=1)
    assert moved(one.arrays[:3], started()) == pytest.approx(8.0, rel=0.2)
    content = contents.open("model-000004+facts")
    assert content.read(content.data_begin, content.schema.nbytes).decode() == '{"halving": {"norm": 0.5, "rounds": 4}}'


def test_what_finish_adds_has_the_same_bits_where_updates_are_folded():
    folded, _ = simulated(lambda **more: strategy(chain(halving(8.0), int8()), **more))
    assert bits(folded) == bits(locally(strategy(chain(halving(8.0), int8()))).arrays)


def test_a_round_without_updates_keeps_the_facts():
    class Fails(fl.client.NumPyClient):
        def fit(self, parameters, config):
            raise RuntimeError

    contents = MemoryContents()
    run_locally(strategy(halving(8.0)), {"0": Fails(), "1": Fails()}, num_rounds=3, store=MemoryStore(contents))
    with pytest.raises(fl.errors.StoreError):
        contents.open("model-000003+facts")


@pytest.mark.parametrize("transform", [top_k(0.05), chain(halving(4.0), top_k(0.05))], ids=["top_k", "with facts"])
def test_a_simulation_that_goes_on_in_the_middle_ends_with_the_same_bits(transform, tmp_path):
    class Died(BaseException):
        pass

    whole, _ = simulated(lambda **more: strategy(transform, **more), rounds=5)
    seen, died = [], []

    def look(number, arrays, _):
        if number == 3 and not died:
            died.append(number)
            raise Died
        seen.append([array.copy() for array in arrays])
        return 0.0, {}

    def go():
        start_simulation(
            client_fn=lambda context: Trains(context.node_id, context.state),
            num_clients=4,
            config=fl.server.ServerConfig(num_rounds=5),
            strategy=strategy(transform, evaluate_fn=look),
            backend="inline",
            store=tmp_path,
        )

    with pytest.raises(Died):
        go()
    before = len(seen)
    go()
    assert bits(seen[-1]) == bits(whole)
    assert len(seen) - before == 3


def test_a_round_that_does_not_wait_keeps_no_memory_of_what_did_not_count():
    seconds = lambda client, number: 1 + int(client)  # noqa: E731
    pace = Pace(goal=2, quorum=2)
    there, _ = simulated(lambda **more: strategy(top_k(0.05), pace=pace, **more), rounds=3, durations=seconds)
    alone = locally(strategy(top_k(0.05)), clients=2)
    assert bits(there) == bits(alone.arrays)


def test_a_transform_may_say_more_and_count_less():
    @register
    def one_each() -> Transform:
        def encode(update, base, site):
            return update._replace(num_examples=1, metrics={**update.metrics, "examples": update.num_examples})

        return Transform("one_each", encode=encode)

    run = locally(strategy(one_each()), rounds=1)
    assert run.history.metrics_distributed_fit["examples"] == [(1, (1 + 2 + 3 + 4) / 4)]
