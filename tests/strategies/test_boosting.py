"""Boosters as bytes: on their way, bagged and cycled; with real xgboost where it is installed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from umbel.common import Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.errors import StrategyError
from umbel.params import Blob, Params
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.server.strategy import FedXgbBagging, FedXgbCyclic, FedXgbNnAvg
from umbel.testing import run_locally
from umbel.training import Client, NumPyClient


def booster(*names, classes=None):
    """JSON of a booster with a tree of each name, as xgboost writes it."""
    trees = [{"id": i, "name": name} for i, name in enumerate(names)]
    model = {
        "gbtree_model_param": {"num_trees": str(len(names)), "num_parallel_tree": "1"},
        "iteration_indptr": list(range(len(names) + 1)),
        "tree_info": classes or [0] * len(names),
        "trees": trees,
    }
    return json.dumps({"learner": {"gradient_booster": {"model": model, "name": "gbtree"}}}).encode()


def model_of(raw):
    return json.loads(bytes(raw))["learner"]["gradient_booster"]["model"]


def names_of(raw):
    return [tree["name"] for tree in model_of(raw)["trees"]]


class Grower(NumPyClient):
    def __init__(self, name):
        self.name, self.seen = name, []

    def fit(self, parameters, config):
        self.seen.append([bytes(blob) for blob in parameters])
        return [booster(f"{self.name}{len(self.seen)}", classes=[len(self.name)])], 1, {}

    def evaluate(self, parameters, config):
        return float(len(names_of(parameters[0]))), 1, {}


EMPTY = {"initial_parameters": Parameters([], tensor_type=""), "fraction_evaluate": 1.0}


def test_bytes_come_back_as_bytes():
    params = Params.of([b"trees", np.zeros(3, "uint8"), bytearray(b"")])
    again = Params.from_bytes(params.to_bytes()).arrays()
    assert [isinstance(array, Blob) for array in again] == [True, False, True]
    assert [bytes(array) for array in again] == [b"trees", b"\0\0\0", b""]
    assert Parameters.of([again[0]]).tensors == [b"trees"]
    assert Parameters.of([again[0]]).tensor_type == ""
    assert Parameters([b"trees"], tensor_type="").arrays()[0].tobytes() == b"trees"


@pytest.mark.parametrize("place", ["memory", "files"])
def test_bagging_adds_everybody_s_trees_in_task_order(place, tmp_path):
    clients = {"a": Grower("a"), "bb": Grower("bb")}
    store = MemoryStore(FileContents(tmp_path)) if place == "files" else None
    run = run_locally(FedXgbBagging(**EMPTY), clients, num_rounds=2, store=store)
    model = model_of(run.arrays[0])
    assert [tree["name"] for tree in model["trees"]] == ["a1", "bb1", "a2", "bb2"]
    assert [tree["id"] for tree in model["trees"]] == [0, 1, 2, 3]
    assert model["tree_info"] == [1, 2, 1, 2]  # classes stay with their trees
    assert model["iteration_indptr"] == [0, 1, 2, 3, 4]
    assert model["gbtree_model_param"]["num_trees"] == "4"
    assert clients["a"].seen[0] == []
    assert names_of(clients["a"].seen[1][0]) == ["a1", "bb1"]
    assert run.history.losses_distributed == [(1, 2.0), (2, 4.0)]


class Classic(Client):
    """As flwr's examples write it, with requests and responses."""

    def fit(self, ins):
        from umbel.common import Code, FitRes, Status

        known = [names_of(tensor) for tensor in ins.parameters.tensors]
        return FitRes(Status(Code.OK), Parameters(tensor_type="", tensors=[booster(f"after{known}")]), 1, {})


def test_a_classic_client_sees_the_bytes_as_tensors():
    strategy = FedXgbBagging(**{**EMPTY, "fraction_evaluate": 0.0})
    run = run_locally(strategy, {"a": Classic(), "b": Classic()}, num_rounds=2)
    later = "after[['after[]', 'after[]']]"
    assert names_of(run.arrays[0]) == ["after[]", "after[]", later, later]


def test_cyclic_takes_one_client_after_another():
    clients = {name: Grower(name) for name in ("a", "b", "c")}
    run = run_locally(FedXgbCyclic(min_available_clients=3, min_fit_clients=3, **EMPTY), clients, num_rounds=4)
    assert [len(client.seen) for client in clients.values()] == [2, 1, 1]
    assert names_of(clients["b"].seen[0][0]) == ["a1"]
    assert names_of(run.arrays[0]) == ["a2"]


class WithNetwork(NumPyClient):
    def __init__(self, name, weight):
        self.name, self.weight = name, weight

    def fit(self, parameters, config):
        return [np.full(3, self.weight, "float32"), booster(self.name)], int(self.weight), {"trees": len(parameters)}


def test_networks_are_averaged_and_trees_collected():
    clients = {"a": WithNetwork("a", 1.0), "b": WithNetwork("b", 3.0)}
    start = ndarrays_to_parameters([np.zeros(3, "float32")])
    run = run_locally(FedXgbNnAvg(initial_parameters=start, fraction_evaluate=0.0), clients, num_rounds=2)
    network, *trees = run.arrays
    assert network.tolist() == [2.5] * 3
    assert [names_of(blob) for blob in trees] == [["a"], ["b"]]
    assert run.history.metrics_distributed_fit["trees"] == [(1, 1.0), (2, 3.0)]


def test_an_answer_without_a_booster_is_said():
    class Numbers(NumPyClient):
        def fit(self, parameters, config):
            return [np.zeros(3)], 1, {}

    class Text(NumPyClient):
        def fit(self, parameters, config):
            return [b"{}"], 1, {}

    with pytest.raises(StrategyError, match="client a sent no booster"):
        run_locally(FedXgbBagging(**EMPTY), {"a": Numbers(), "b": Numbers()})
    with pytest.raises(StrategyError, match="no tree booster in JSON"):
        run_locally(FedXgbBagging(**EMPTY), {"a": Text(), "b": Text()})


@pytest.mark.parametrize("strategy", [FedXgbBagging, FedXgbCyclic])
def test_boosting_starts_without_a_tree_where_nothing_is_given(strategy):
    class Empty(Grower):
        def get_parameters(self, config):
            return []

    clients = {name: Empty(name) for name in "ab"}
    run_locally(strategy(fraction_evaluate=0.0), clients)
    assert clients["a"].seen == [[]]


class Sending(NumPyClient):
    def __init__(self, *answer, examples=1):
        self.answer, self.examples, self.evaluated = list(answer), examples, 0

    def fit(self, parameters, config):
        return self.answer, self.examples, {"size": float(len(self.answer))}

    def evaluate(self, parameters, config):
        self.evaluated += 1
        return 0.0, 1, {}


def without(path, raw):
    found = json.loads(raw)
    *parents, last = ["learner", "gradient_booster", "model", *path]
    place = found
    for name in parents:
        place = place[name]
    del place[last]
    return json.dumps(found).encode()


def with_model(**entries):
    found = json.loads(booster("x"))
    found["learner"]["gradient_booster"]["model"] |= entries
    return json.dumps(found).encode()


NO_BOOSTERS = {
    "text": b"trees",
    "UBJSON": b"{L\x00\x07learner\xa3",
    "nothing": b"",
    "no object": b"[]",
    "brackets": b"[" * 100_000,
    "dart": b'{"learner": {"gradient_booster": {"name": "dart", "gbtree": {"model": {}}, "weight_drop": []}}}',
    "without trees": without(["trees"], booster("x")),
    "no tree": with_model(trees=[1]),
    "a tree too few": with_model(trees=[]),
    "no classes": with_model(tree_info=["x"]),
    "no ends": with_model(iteration_indptr=[]),
    "ends elsewhere": with_model(iteration_indptr=[0, 5]),
    "no numbers of the model": with_model(gbtree_model_param=[]),
}


@pytest.mark.parametrize("raw", NO_BOOSTERS.values(), ids=NO_BOOSTERS.keys())
@pytest.mark.parametrize("bad", ["a", "c"])
def test_what_is_no_booster_is_left_out_and_its_client_named(raw, bad):
    clients = {name: Sending(booster(name)) for name in "abc"} | {bad: Sending(raw, b"more")}
    run = run_locally(FedXgbBagging(**EMPTY), clients, num_rounds=2)
    good = [name for name in "abc" if name != bad]
    assert names_of(run.arrays[0]) == good * 2
    said = f"client {bad} sent no tree booster in JSON; send booster.save_raw('json')"
    assert run.history.metrics_distributed_fit == {"left_out": [(1, said), (2, said)], "size": [(1, 1.0), (2, 1.0)]}


def test_a_round_in_which_nobody_sends_a_booster_keeps_the_one_there_is():
    start = Parameters([booster("first")], tensor_type="")
    for strategy in (FedXgbBagging, FedXgbCyclic):
        clients = {name: Sending(b"trees") for name in "ab"}
        run = run_locally(strategy(initial_parameters=start, fraction_evaluate=0.0), clients, num_rounds=2)
        assert names_of(run.arrays[0]) == ["first"]
        assert "client a sent no tree booster" in run.history.metrics_distributed_fit["left_out"][0][1]


def test_trees_of_an_xgboost_that_writes_no_iterations_are_one():
    clients = {"a": Sending(booster("a", "b")), "b": Sending(without(["iteration_indptr"], booster("c", "d")))}
    run = run_locally(FedXgbBagging(**EMPTY), clients)
    assert model_of(run.arrays[0])["iteration_indptr"] == [0, 1, 2, 4]


@pytest.mark.parametrize("network", [np.full(3, np.nan, "float32"), np.ones(2, "float32"), np.ones((3, 1), "float32")])
@pytest.mark.parametrize("bad", ["a", "c"])
def test_a_network_that_is_like_no_other_is_left_out_with_its_trees(network, bad):
    clients = {name: WithNetwork(name, 2.0) for name in "abc"} | {bad: Sending(network, booster(bad))}
    start = ndarrays_to_parameters([np.zeros(3, "float32")])
    run = run_locally(FedXgbNnAvg(initial_parameters=start, fraction_evaluate=0.0), clients)
    assert run.arrays[0].tolist() == [2.0] * 3
    assert [names_of(blob) for blob in run.arrays[1:]] == [[name] for name in "abc" if name != bad]
    assert f"client {bad} sent a network" in run.history.metrics_distributed_fit["left_out"][0][1]


def test_networks_without_any_example_keep_the_model():
    clients = {name: Sending(np.ones(3, "float32"), booster(name), examples=0) for name in "ab"}
    start = ndarrays_to_parameters([np.zeros(3, "float32")])
    run = run_locally(FedXgbNnAvg(initial_parameters=start, fraction_evaluate=0.0), clients)
    assert [array.tolist() for array in run.arrays] == [[0.0] * 3]


@pytest.mark.parametrize("keyword", ["evaluate_fn", "evaluate_function"])
def test_the_server_s_evaluation_of_a_booster_is_asked_when_it_is_due(keyword):
    asked = []

    def evaluate(number, given, config):
        (raw,) = given if keyword == "evaluate_fn" else given.tensors
        asked.append((number, len(names_of(raw))))
        return 0.0, {}

    strategy = FedXgbBagging(**{**EMPTY, keyword: evaluate, "evaluate_every": 2})
    run_locally(strategy, {name: Grower(name) for name in "ab"}, num_rounds=4)
    assert asked == [(2, 4), (4, 8)]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_cyclic_clients_evaluate_in_turns_however_often(every):
    clients = {name: Sending(booster(name)) for name in "ab"}
    run_locally(FedXgbCyclic(evaluate_every=every, **EMPTY), clients, num_rounds=4 * every)
    assert [client.evaluated for client in clients.values()] == [2, 2]


# ---- real boosters


def test_a_bagged_booster_predicts_the_sum_of_its_parts():
    xgb = pytest.importorskip("xgboost")
    draw = np.random.RandomState(0)
    x = draw.standard_normal((300, 5))
    params = {"objective": "multi:softprob", "num_class": 3, "base_score": 0.5, "nthread": 1}
    labels = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)

    class Owner(NumPyClient):
        def __init__(self, part):
            self.data = xgb.DMatrix(x[part::3], label=labels[part::3])
            self.sent = []

        def fit(self, parameters, config):
            if parameters:
                model = xgb.Booster(params)
                model.load_model(bytearray(bytes(parameters[0])))
                for _ in range(2):
                    model.update(self.data, model.num_boosted_rounds())
            else:
                model = xgb.train(params, self.data, 2)
            model = model[model.num_boosted_rounds() - 2 :]
            self.sent.append(model)
            return [bytes(model.save_raw("json"))], 100, {}

    owners = {str(i): Owner(i) for i in range(3)}
    run = run_locally(FedXgbBagging(**{**EMPTY, "fraction_evaluate": 0.0}), owners, num_rounds=3)
    whole = xgb.Booster(params)
    whole.load_model(bytearray(bytes(run.arrays[0])))
    assert whole.num_boosted_rounds() == 3 * 3 * 2
    everything = xgb.DMatrix(x)
    parts = [model.predict(everything, output_margin=True) - 0.5 for owner in owners.values() for model in owner.sent]
    assert np.allclose(whole.predict(everything, output_margin=True), np.sum(parts, axis=0) + 0.5, atol=1e-4)
    assert np.mean(whole.predict(everything).argmax(axis=1) == labels) > 0.9


def test_parameters_to_ndarrays_of_a_booster_are_its_bytes():
    assert parameters_to_ndarrays(Parameters([b"ab"], tensor_type=""))[0].tolist() == [97, 98]
