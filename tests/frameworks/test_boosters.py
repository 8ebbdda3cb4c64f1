"""XGBoost and LightGBM: one booster that all clients grow, without a line of glue."""

import re
from importlib import import_module

import numpy as np
import pytest

import umbel as fl
from umbel.frameworks.errors import ParametersMismatch, ParametersNotReady
from umbel.server import strategy as strategies
from umbel.testing import run_locally
from umbel.training import NumPyClient

DRAW = np.random.default_rng(3)
X = DRAW.normal(size=(600, 5))
LABELS = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.3)  # three classes
TARGETS = 100 + 10 * X[:, 0] + X[:, 3] ** 2
TASKS = {
    "xgboost": {
        "binary": ({"objective": "binary:logistic", "max_depth": 3}, LABELS > 0),
        "classes": ({"objective": "multi:softprob", "num_class": 3, "max_depth": 3}, LABELS),
        "numbers": ({"objective": "reg:squarederror", "max_depth": 3, "base_score": 100}, TARGETS),
    },
    "lightgbm": {
        "binary": ({"objective": "binary", "num_leaves": 7}, LABELS > 0),
        "classes": ({"objective": "multiclass", "num_class": 3, "num_leaves": 7}, LABELS),
        "numbers": ({"objective": "regression", "num_leaves": 7}, TARGETS - 100),
    },
}
STRATEGIES = {"xgboost": ("FedXgbBagging", "FedXgbCyclic"), "lightgbm": ("FedLgbBagging", "FedLgbCyclic")}


@pytest.fixture(params=TASKS)
def library(request):
    """The framework's name, the framework and its adapter."""
    name = request.param
    framework = pytest.importorskip(name, reason=f"{name} is not installed: its adapter is not tested")
    return name, framework, import_module(f"umbel.frameworks.{name}")


def rows(number, labels):
    return X[number::3], np.asarray(labels, float)[number::3]


def strategy_of(name, how, **options):
    cls = getattr(strategies, STRATEGIES[name][how])
    return cls(min_fit_clients=3, min_available_clients=3, **options)


@pytest.mark.parametrize("how", [0, 1], ids=["bagging", "cyclic"])
@pytest.mark.parametrize("task", ["binary", "classes", "numbers"])
def test_clients_grow_a_booster_that_comes_home_as_the_framework_s_own(library, task, how):
    name, framework, adapter = library
    params, labels = TASKS[name][task]
    clients = {str(i): adapter.client(params, rows(i, labels), rows((i + 1) % 3, labels), rounds=2) for i in range(3)}
    run = run_locally(strategy_of(name, how), clients, num_rounds=6)
    assert run.history.failures == []
    assert run.history.metrics_distributed_fit == {}  # nothing is left out
    losses = [loss for _, loss in run.history.losses_distributed]
    assert losses[-1] < 0.8 * losses[0]
    booster = adapter.load(params, run.arrays)
    assert isinstance(booster, framework.Booster)
    per_round = {"classes": 3}.get(task, 1)
    grown = booster.num_trees() if name == "lightgbm" else len(booster.get_dump())
    assert grown == 6 * 2 * per_round * (3 if how == 0 else 1)
    again = adapter.load({}, adapter.parameters_of(booster))
    assert np.array_equal(predicted(framework, again), predicted(framework, booster))


def predicted(framework, booster):
    return booster.predict(framework.DMatrix(X) if framework.__name__ == "xgboost" else X)


def test_a_bagged_booster_predicts_the_sum_of_what_clients_have_grown(library):
    name, framework, adapter = library
    params, labels = TASKS[name]["classes"]
    sent = []

    class Recorded(NumPyClient):
        def __init__(self, number):
            self.inner = adapter.client(params, rows(number, labels), rounds=2)

        def fit(self, parameters, config):
            answer = self.inner.fit(parameters, config)
            sent.append(answer[0])
            return answer

    run = run_locally(strategy_of(name, 0, fraction_evaluate=0.0), {str(i): Recorded(i) for i in range(3)}, num_rounds=2)

    def margin(arrays):
        booster = adapter.load(params, arrays)
        if name == "lightgbm":
            return booster.predict(X, raw_score=True)
        return booster.predict(framework.DMatrix(X), output_margin=True) - 0.5  # without the base score

    assert len(sent) == 6
    assert np.allclose(margin(run.arrays), sum(map(margin, sent)), atol=1e-4)


def test_functions_give_each_client_its_rows(library):
    name, _, adapter = library
    params, labels = TASKS[name]["binary"]
    made = adapter.client(params, lambda number: rows(number, labels), lambda number: rows(number, labels))
    history = fl.simulation.start_simulation(
        client_fn=made,
        num_clients=3,
        strategy=strategy_of(name, 0),
        config=fl.server.ServerConfig(num_rounds=3),
        backend="inline",
        progress=False,
    )
    own = {str(i): adapter.client(params, rows(i, labels), rows(i, labels)) for i in range(3)}
    run = run_locally(strategy_of(name, 0), own, num_rounds=3)
    assert history.losses_distributed == run.history.losses_distributed
    assert history.metrics_distributed["accuracy"][-1][1] > 0.8


@pytest.mark.frameworks
@pytest.mark.parametrize("how", [0, 1], ids=["bagging", "cyclic"])
def test_processes_grow_the_same_trees(library, how):
    name, _, adapter = library
    params, labels = TASKS[name]["classes"]
    made = adapter.client(params, lambda number: rows(number, labels), lambda number: rows(number, labels))
    histories = [
        fl.simulation.start_simulation(
            client_fn=made,
            num_clients=3,
            strategy=strategy_of(name, how),
            config=fl.server.ServerConfig(num_rounds=2),
            progress=False,
            **where,
        )
        for where in ({"backend": "inline"}, {"backend": "processes", "workers": 2})
    ]
    assert histories[0].failures == []
    assert histories[0] == histories[1]


# ---- bad input


def test_a_booster_that_has_no_trees_to_add_is_refused(library):
    name, _, adapter = library
    kind = {"xgboost": {"booster": "gblinear"}, "lightgbm": {"boosting": "dart"}}[name]
    with pytest.raises(ValueError, match=r"cannot be added|can be added"):
        adapter.client(kind, rows(0, LABELS))
    with pytest.raises(TypeError, match="as a dict"):
        adapter.client("binary", rows(0, LABELS))
    with pytest.raises(ValueError, match="rounds=0"):
        adapter.client({}, rows(0, LABELS), rounds=0)


def test_federate_says_where_a_client_of_boosters_goes(library):
    _, _, adapter = library
    with pytest.raises(TypeError, match=r"BoosterClient, which has no model to begin with.*start_simulation\(client_fn=…\)"):
        fl.federate(adapter.client({}, rows(0, LABELS)))


def test_what_is_no_booster_is_not_loaded(library):
    _, _, adapter = library
    with pytest.raises(ParametersNotReady, match="no booster so far"):
        adapter.load({}, [])
    with pytest.raises(ParametersMismatch, match="one array of bytes; got 2 arrays"):
        adapter.load({}, [np.zeros(2), b"trees"])


def test_a_client_with_other_columns_is_left_out_and_named(library):
    name, _, adapter = library
    params, labels = TASKS[name]["binary"]
    clients = {str(i): adapter.client(params, rows(i, labels)) for i in range(2)}
    clients["odd"] = adapter.client(params, (X[:, :3], np.asarray(labels, float)))
    run = run_locally(strategy_of(name, 0, fraction_evaluate=0.0), clients)
    said = run.history.metrics_distributed_fit["left_out"][0][1]
    assert said == "client odd sent a booster of other columns or classes than most"


BROKEN = {
    "nothing": lambda text: "",
    "no end": lambda text: text.replace("end of trees", "end"),
    "a child that is not there": lambda text: text.replace("left_child=", "left_child=7 ", 1),
    "a circle": lambda text: re.sub(r"(left|right)_child=1 ", r"\1_child=0 ", text, count=1),
    "a feature that is not there": lambda text: re.sub(r"split_feature=\d+", "split_feature=99", text, count=1),
    "a leaf that is no number": lambda text: text.replace("leaf_value=", "leaf_value=nan ", 1),
    "an average": lambda text: text.replace("label_index", "average_output\nlabel_index"),
    "a tree too few": lambda text: text.replace("num_tree_per_iteration=1", "num_tree_per_iteration=2"),
    "bytes": lambda text: "\ufffe\x00" + text,
}


@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN)
def test_text_that_lightgbm_could_not_walk_through_is_left_out(breaks):
    pytest.importorskip("lightgbm", reason="lightgbm is not installed: its adapter is not tested")
    adapter = import_module("umbel.frameworks.lightgbm")
    params, labels = TASKS["lightgbm"]["binary"]

    class Breaks(NumPyClient):
        inner = adapter.client(params, rows(2, labels))

        def fit(self, parameters, config):
            ((raw,), *rest) = self.inner.fit(parameters, config)
            broken = breaks(raw.decode())
            assert broken != raw.decode()
            return [broken.encode()], *rest

    clients = {str(i): adapter.client(params, rows(i, labels)) for i in range(2)} | {"bad": Breaks()}
    run = run_locally(strategy_of("lightgbm", 0, fraction_evaluate=0.0), clients)
    assert "client bad sent no booster in LightGBM's text" in run.history.metrics_distributed_fit["left_out"][0][1]
    assert adapter.load({}, run.arrays).num_trees() == 2
