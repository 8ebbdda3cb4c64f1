"""What clients report, on its way into a History: numbers that are missing, functions that cannot take them, liars."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from umbel.aggregators import median
from umbel.common import EvaluateRes, Status, ndarrays_to_parameters
from umbel.common.typing import Code
from umbel.errors import StrategyError
from umbel.events import ExchangeClosed, RunEnded
from umbel.remarks import Remark
from umbel.rounds.messages import Evaluated, Summarized
from umbel.runtime.notes import Notes
from umbel.server import ServerConfig, Until
from umbel.server.strategy import (
    Bucketing,
    Bulyan,
    CenteredClipping,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    FLTrust,
    GeometricMedian,
    Krum,
    MultiKrum,
    NearestNeighbourMixing,
    PowerOfChoice,
)
from umbel.simulation import start_simulation
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Tells(NumPyClient):
    """Adds 1, and reports what it is told to."""

    def __init__(self, *, loss=0.5, examples=10, fit=None, evaluate=None, step=1.0):
        self.loss, self.examples, self.step = loss, examples, step
        self.metrics = {"fit": fit or {}, "evaluate": {"accuracy": 0.5} if evaluate is None else evaluate}

    def fit(self, parameters, config):
        return [parameters[0] + self.step], self.examples, self.metrics["fit"]

    def evaluate(self, parameters, config):
        loss = self.loss(parameters[0][0]) if callable(self.loss) else self.loss
        return loss, self.examples, self.metrics["evaluate"]


START = ndarrays_to_parameters([np.zeros(2)])


def run(clients, strategy=FedAvg, rounds=2, **keywords):
    return run_locally(strategy(initial_parameters=START, **keywords), clients, num_rounds=rounds)


def notes_of(done, kind="evaluate"):
    return [event.note for event in done.events if isinstance(event, ExchangeClosed) and event.kind == kind]


def end_of(done):
    (finished,) = [event for event in done.events if isinstance(event, RunEnded)]
    return finished.rounds, finished.why


# ---- numbers that are not finite


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_missing_and_everything_else_counts(number):
    odd = Tells(loss=1.0, fit={"auc": number, "f1": 0.2}, evaluate={"auc": number, "f1": 0.2}, step=3.0)
    done = run({"a": odd, "b": Tells(loss=2.0, fit={"auc": 0.7, "f1": 0.4}, evaluate={"auc": 0.7, "f1": 0.4})})
    assert done.arrays[0].tolist() == [4.0, 4.0]
    assert done.history.losses_distributed == [(1, 1.5), (2, 1.5)]
    for metrics in (done.history.metrics_distributed_fit, done.history.metrics_distributed):
        assert metrics == {"auc": [(1, 0.7), (2, 0.7)], "f1": [(1, pytest.approx(0.3)), (2, pytest.approx(0.3))]}
    assert done.history.failures == []
    for kind in ("fit", "evaluate"):
        said = f"metrics that are not finite count as missing: of client a ('auc' = {number})"
        assert notes_of(done, kind) == [said, ""]  # once


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_no_loss_and_its_metrics_count(number):
    done = run({"a": Tells(loss=number, evaluate={"accuracy": 1.0}), "b": Tells(loss=2.0)})
    assert done.history.losses_distributed == [(1, 2.0), (2, 2.0)]
    assert done.history.metrics_distributed == {"accuracy": [(1, 0.75), (2, 0.75)]}
    said = f"the loss of client a ({number}) is not finite and does not count; metrics beside it do"
    assert notes_of(done) == [said, ""]
    nobody = run({"a": Tells(loss=number), "b": Tells(loss=number)})
    assert nobody.history.losses_distributed == []
    assert nobody.history.metrics_distributed == {"accuracy": [(1, 0.5), (2, 0.5)]}


def test_the_owner_s_functions_see_what_is_not_finite():
    seen = []

    class Sees(FedAvg):
        def aggregate_evaluate(self, server_round, results, failures):
            seen.append([res.loss for _, res in results])
            return super().aggregate_evaluate(server_round, results, failures)

    clients = {"a": Tells(loss=math.nan, evaluate={"auc": math.inf}), "b": Tells(evaluate={"auc": 0.5})}
    done = run(clients, Sees, 1, evaluate_metrics_aggregation_fn=lambda sent: {"worst": max(m["auc"] for _, m in sent)})
    assert math.isnan(seen[0][0])
    assert done.history.metrics_distributed == {"worst": [(1, math.inf)]}


@pytest.mark.parametrize("backend", ["inline", pytest.param("processes", marks=pytest.mark.system)])
def test_a_simulation_reports_the_same_wherever_its_clients_run(backend):
    def client_fn(context):
        many = {f"m{i}": float(i) for i in range(1002)}
        odd = {"auc": math.nan if context.node_id == "0" else 0.7}
        return Tells(loss=math.inf if context.node_id == "1" else 2.0, fit=many, evaluate=odd, step=2.0)

    strategy = FedAvg(initial_parameters=START, evaluate_fn=lambda number, arrays, _: (float(arrays[0][0]), {}))
    history = start_simulation(
        client_fn=client_fn,
        num_clients=3,
        config=ServerConfig(num_rounds=2),
        strategy=strategy,
        backend=backend,
        workers=2 if backend == "processes" else None,
        progress=False,
    )
    assert history.losses_centralized == [(0, 0.0), (1, 2.0), (2, 4.0)]
    assert history.losses_distributed == [(1, 2.0), (2, 2.0)]
    assert history.metrics_distributed == {"auc": [(1, 0.7), (2, 0.7)]}
    assert [*history.metrics_distributed_fit] == [f"m{i}" for i in range(1000)]
    assert history.failures == []


def test_clients_that_all_report_too_much_do_not_fill_the_log(caplog):
    start_simulation(
        client_fn=lambda context: Tells(fit={"a": 1.0, "b": 2.0}),
        num_clients=50,
        config=ServerConfig(num_rounds=2),
        strategy=FedAvg(initial_parameters=START),
        backend="inline",
        progress=False,
        max_metrics=1,
    )
    lines = [record.getMessage() for record in caplog.records if "more than there is room for" in record.getMessage()]
    assert len(lines) == 20
    assert lines[0].startswith("fit: 1 metrics of client 0 are")
    assert lines[-1].endswith("More lines like this are left out")


def test_room_for_more_metrics_can_be_made():
    for client, keywords in (
        (Tells(fit={f"m{i}": 1.0 for i in range(1500)}), {"max_metrics": 1500}),
        (Tells(fit={"mask": bytes(2**20), "size": 2**20}), {"max_metrics_size": 2**21}),
    ):
        sent = []
        start_simulation(
            client_fn=lambda context, client=client: client,
            num_clients=2,
            config=ServerConfig(num_rounds=1),
            strategy=FedAvg(fit_metrics_aggregation_fn=sent.extend, initial_parameters=START),
            backend="inline",
            progress=False,
            **keywords,
        )
        assert sent == [(10, client.metrics["fit"])] * 2


# ---- until


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_patience_counts_rounds_whose_number_is_not_finite(number):
    """A model that diverges ends its run, and so does one whose metric nobody sends any more."""
    diverging = Tells(loss=lambda weight: 1 / weight if weight < 3 else number)
    done = run({"a": diverging, "b": diverging}, rounds=9, until=Until(patience=3))
    assert end_of(done) == (5, "loss has not become better than 0.5 for 3 rounds")
    never = run({"a": Tells(loss=number), "b": Tells(loss=number)}, rounds=9, until=Until(patience=3))
    assert end_of(never) == (3, "loss has been no finite number for 3 rounds")
    central = run(
        {"a": Tells(), "b": Tells()},
        rounds=9,
        fraction_evaluate=0.0,
        until=Until(patience=2),
        evaluate_fn=lambda round_number, arrays, _: (number, {}),
    )
    assert end_of(central) == (2, "loss has been no finite number for 2 rounds")


def test_patience_counts_rounds_without_the_metric_but_no_round_without_an_evaluation():
    clients = {"a": Tells(evaluate={}), "b": Tells(evaluate={})}
    assert end_of(run(clients, rounds=9, until=Until(metric="f1", patience=4)))[0] == 4
    assert end_of(run(clients, rounds=9, until=Until(metric="f1", patience=4), evaluate_every=3))[0] == 6


def test_the_clients_number_counts_where_the_owner_s_is_not_finite():
    done = run(
        {name: Tells(evaluate={"accuracy": 0.9}) for name in "ab"},
        rounds=5,
        until=Until(metric="accuracy", at_least=0.8),
        evaluate_fn=lambda number, arrays, _: (0.5, {"accuracy": math.nan}),
    )
    assert end_of(done) == (1, "accuracy is 0.9, at least 0.8")


# ---- functions that raise


def weighted_average(metrics):
    accuracies = [examples * m["accuracy"] for examples, m in metrics]
    return {"accuracy": sum(accuracies) / sum(examples for examples, _ in metrics)}


LINE = weighted_average.__code__.co_firstlineno + 1


@pytest.mark.parametrize("kind", ["fit", "evaluate"])
def test_a_metrics_function_that_raises_costs_its_metrics_and_nothing_else(kind):
    lacking = {"h1": Tells(fit={"f1": 0.5}, evaluate={"f1": 0.5})}
    clients = {"h0": Tells(fit={"accuracy": 0.5}), **lacking}
    done = run(clients, rounds=3, **{f"{kind}_metrics_aggregation_fn": weighted_average})
    assert done.arrays[0].tolist() == [3.0, 3.0]
    assert done.history.losses_distributed == [(n, 0.5) for n in (1, 2, 3)]
    mine = done.history.metrics_distributed_fit if kind == "fit" else done.history.metrics_distributed
    assert mine == {}
    raised = f"weighted_average() ({kind}_metrics_aggregation_fn) raised KeyError"
    first, *later = notes_of(done, kind)
    assert first == (
        f"{raised}: 'accuracy' ({__file__}, line {LINE}); client h1's metrics have no 'accuracy'; they have 'f1'. "
        "The round goes on without what it would have returned"
    )
    assert later == [f"{raised} again; the round goes on without it"] * 2


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (Tells(evaluate={"accuracy": "high"}), "client z's metrics are not like the others': 'accuracy' is a str"),
        (Tells(evaluate={}), "client z's metrics have no 'accuracy'; they have none"),
        (Tells(examples=0), "every client sent 'accuracy'"),
    ],
)
def test_the_client_is_named_whose_metrics_are_not_like_the_others(odd, words):
    def function(metrics):
        return {"accuracy": math.log(min(float(m["accuracy"]) * examples for examples, m in metrics))}

    done = run({"a": Tells(), "b": Tells(), "z": odd}, rounds=1, evaluate_metrics_aggregation_fn=function)
    assert words in notes_of(done)[0]
    assert done.history.losses_distributed == [(1, 0.5)]


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, type("Odd", (BaseException,), {})])
def test_what_is_no_ordinary_exception_costs_no_more(error):
    def function(metrics):
        raise error

    done = run({"a": Tells(), "b": Tells()}, rounds=2, evaluate_metrics_aggregation_fn=function)
    assert f"raised {error.__name__}" in notes_of(done)[0]
    assert [number for number, _ in done.history.losses_distributed] == [1, 2]


def test_an_owner_whose_metrics_function_exits_wants_the_end():
    with pytest.raises(SystemExit):
        run({"a": Tells(), "b": Tells()}, rounds=2, evaluate_metrics_aggregation_fn=lambda metrics: sys.exit(3))


def test_a_division_by_no_examples_is_named():
    done = run({"a": Tells(examples=0), "b": Tells(examples=0)}, rounds=1, evaluate_metrics_aggregation_fn=weighted_average)
    assert "raised ZeroDivisionError: " in notes_of(done)[0]
    assert "num_examples is 0 of clients a, b" in notes_of(done)[0]


def test_an_aggregate_evaluate_that_raises_costs_the_loss_too():
    class Raises(FedAvg):
        def aggregate_evaluate(self, server_round, results, failures):
            raise ValueError("no\n\x1b[2Jsense")

    done = run({"a": Tells(), "b": Tells()}, Raises)
    assert done.arrays[0].tolist() == [2.0, 2.0]
    assert done.history.losses_distributed == []
    assert notes_of(done)[0].startswith("aggregate_evaluate() raised ValueError: no \\x1b[2Jsense (")
    assert notes_of(done)[1] == "aggregate_evaluate() raised ValueError again; the round goes on without it"


def test_a_program_that_calls_a_strategy_by_itself_gets_what_its_function_raises():
    results = [(SimpleNamespace(cid="a"), EvaluateRes(Status(Code.OK), 0.5, 1, {}))]
    with pytest.raises(ZeroDivisionError):
        FedAvg(evaluate_metrics_aggregation_fn=lambda sent: 1 / 0).aggregate_evaluate(1, results, [])


METHODS = ["aggregate_fit", "configure_fit", "configure_evaluate", "evaluate", "initialize_parameters"]


@pytest.mark.parametrize("method", METHODS)
def test_what_else_raises_ends_the_run_with_a_line_about_how_to_go_on(method, tmp_path, caplog):
    def raises(self, *arguments):
        raise LookupError("mend me")

    broken = type("Broken", (FedAvg,), {method: raises})
    kept = tmp_path / "kept"
    for store, words in ((kept, f"umbel resume .* --store {kept}$"), (None, r"Nothing of this run is kept \(store=None\)")):
        caplog.clear()
        with pytest.raises(LookupError, match="mend me"):
            start_simulation(
                client_fn=lambda context: Tells(),
                num_clients=2,
                strategy=broken(initial_parameters=START),
                backend="inline",
                progress=False,
                store=store,
            )
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert re.search(rf"^{method}\(\) .*has raised LookupError\. .*{words}", line)


def test_a_simulation_whose_script_is_mended_asks_again_and_goes_on(tmp_path):
    broken, asked = [True], []

    def evaluate(number, arrays, config):
        asked.append(number)
        if number == 2 and broken:
            raise LookupError("mend me")
        return float(arrays[0][0]), {}

    def simulate():
        return start_simulation(
            client_fn=lambda context: Tells(),
            num_clients=2,
            config=ServerConfig(num_rounds=3),
            strategy=FedAvg(initial_parameters=START, evaluate_fn=evaluate),
            backend="inline",
            progress=False,
            store=tmp_path,
        )

    for _ in range(2):
        with pytest.raises(LookupError, match="mend me"):
            simulate()
    assert asked == [0, 1, 2, 2]
    broken.clear()
    assert simulate().losses_centralized == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert asked == [0, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("loss", ["low", [0.5], np.zeros(2), object()])
@pytest.mark.parametrize("method", ["evaluate", "aggregate_evaluate"])
def test_a_loss_of_the_owner_s_that_is_no_number_is_not_taken(method, loss):
    wrong = type("Wrong", (FedAvg,), {method: lambda self, *_: (loss, {})})
    with pytest.raises(StrategyError, match=rf"{method}\(\) returned the loss .*; return a number, or None"):
        run({"a": Tells(), "b": Tells()}, wrong)


NUMBERS = [np.full((1, 1), 0.25), Decimal("0.25"), Fraction(1, 4), np.longdouble(0.25), np.float16(0.25)]


@pytest.mark.parametrize("loss", NUMBERS)
def test_a_loss_of_the_owner_s_may_be_any_number(loss):
    done = run({"a": Tells(), "b": Tells()}, rounds=1, evaluate_fn=lambda number, arrays, _: (loss, {}))
    assert done.history.losses_centralized == [(0, 0.25), (1, 0.25)]
    assert type(done.history.losses_centralized[0][1]) is float


def test_a_remark_is_said_in_full_once_and_never_twice_for_one_answer():
    notes = Notes()
    said = Remark(("kind",), "in full", "in short")
    assert notes.add_to(Summarized(0.5), [said, said]) == Summarized(0.5, {}, "in full")
    assert notes.add_to(Summarized(0.5), [said]).note == "in short"
    assert notes.add_to(Summarized(0.5), []) == Summarized(0.5)
    assert notes.add_to(Evaluated(0.5), [said]) == Evaluated(0.5)


# ---- liars


class Own(FedAvg):
    """A rule of somebody's own, which Umbel knows to be robust where it is mixed."""

    def algorithm(self):
        return replace(super().algorithm(), aggregator=median())


ROBUST = {
    "Krum": lambda **k: Krum(num_malicious_clients=2, **k),
    "MultiKrum": lambda **k: MultiKrum(num_malicious_clients=2, **k),
    "Bulyan": lambda **k: Bulyan(num_malicious_clients=2, **k),
    "FedMedian": FedMedian,
    "FedTrimmedAvg": FedTrimmedAvg,
    "GeometricMedian": GeometricMedian,
    "GeometricMedian by examples": lambda **k: GeometricMedian(by_examples=True, **k),
    "CenteredClipping": CenteredClipping,
    "FLTrust": lambda **k: FLTrust(root_fit=lambda number, arrays: [arrays[0] + 1, *arrays[1:]], **k),
    "Bucketing": lambda **k: Bucketing(FedMedian(**k), bucket_size=2),
    "Bucketing of a rule of one's own": lambda **k: Bucketing(Own(**k)),
    "NearestNeighbourMixing": lambda **k: NearestNeighbourMixing(FedTrimmedAvg(**k), num_malicious_clients=2),
    "PowerOfChoice": lambda **k: PowerOfChoice(FedMedian(**k), candidates=11),
}
LIES = {
    "large": {"loss": -1e308, "fit": {"error": -1e308}, "evaluate": {"accuracy": 1e308}},
    "small": {"loss": 1e308, "fit": {"error": 1e308}, "evaluate": {"accuracy": -1e308}},
    "NaN": {"loss": math.nan, "fit": {"error": math.nan}, "evaluate": {"accuracy": math.nan}},
    "silent": {"loss": math.inf, "fit": {}, "evaluate": {}},
    "text": {"loss": 0.0, "fit": {"error": "x"}, "evaluate": {"accuracy": "1.0"}},
    "a name of their own": {"loss": 0.0, "fit": {"x": 1.0}, "evaluate": {"accuracy": 1.0, "x": 1.0}},
}


class Improves(Tells):
    """Is at an accuracy of 0.55 after one round, and at 0.99 after two."""

    def evaluate(self, parameters, config):
        value = 0.5 if parameters[0][0] < 0.5 else 0.55 if parameters[0][0] < 1.5 else 0.99
        return 1 - value, 10, {"accuracy": value}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
@pytest.mark.parametrize("strategy", ROBUST.values(), ids=ROBUST.keys())
def test_two_liars_neither_end_nor_pin_a_run_nor_choose_what_is_kept(strategy, lie):
    clients = {f"h{i}": Improves(fit={"error": 0.2}) for i in range(9)}
    clients |= {f"z{i}": Tells(examples=10**7, **lie) for i in range(2)}
    done = run(clients, strategy, rounds=6, keep_best="accuracy", until=Until(metric="accuracy", at_least=0.97))
    assert end_of(done) == (2, "accuracy is 0.99, at least 0.97")
    assert done.coordinator.state.standing.best == 0.99
    assert done.history.metrics_distributed == {"accuracy": [(1, 0.55), (2, 0.99)]}
    assert [value for _, value in done.history.losses_distributed] == [pytest.approx(0.45), pytest.approx(0.01)]
    assert done.history.metrics_distributed_fit == {"error": [(1, 0.2), (2, 0.2)]}


class Mixed(Tells):
    """Has integers and booleans, too."""

    def fit(self, parameters, config):
        floats, integers, booleans = parameters
        return [floats + self.step, integers + int(10 * self.step), booleans ^ (self.step > 1.5)], self.examples, {}


def test_what_one_liar_says_does_not_change_the_result_of_a_rule_by_its_number_of_examples():
    start = ndarrays_to_parameters([np.zeros(2), np.zeros(3, int), np.zeros(2, bool)])

    def final(examples, strategy):
        clients = {f"h{i}": Mixed(step=1 + i / 10) for i in range(10)} | {"z": Mixed(step=50.0, examples=examples)}
        done = run_locally(strategy(initial_parameters=start), clients, num_rounds=2)
        return [array.tobytes() for array in done.arrays]

    for name, strategy in ROBUST.items():
        assert final(10, strategy) == final(10**7, strategy), name


def test_too_few_who_evaluate_are_not_believed_and_it_is_said():
    assert Krum(num_malicious_clients=2, fraction_evaluate=0.01).num_evaluation_clients(100) == (7, 5)
    assert Krum(num_malicious_clients=2, fraction_evaluate=0.01).num_evaluation_clients(6) == (6, 5)
    assert Krum(num_malicious_clients=2).num_evaluation_clients(3) == (5, 5)
    assert FedMedian(fraction_evaluate=0.01).num_evaluation_clients(100) == (2, 2)

    class Leaves(Tells):
        def evaluate(self, parameters, config):
            raise RuntimeError("gone")

    clients = {f"a{i}": Tells() for i in range(4)} | {f"b{i}": Leaves() for i in range(3)}
    done = run(clients, Krum, 1, num_malicious_clients=2)
    assert (done.history.losses_distributed, done.history.metrics_distributed) == ([], {})
    said = "4 clients answered, of whom 2 may lie: to believe a number, 5 are needed. There is neither a loss nor a metric"
    assert notes_of(done) == [said]


ENDS = [SystemExit(0), SystemExit("no data"), asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_what_is_no_exception_gets_the_line_too_and_ctrl_c_does_not(error, tmp_path, caplog):
    def raises(number, arrays, config):
        raise error

    ctrl_c = isinstance(error, KeyboardInterrupt)
    with pytest.raises(SystemExit if ctrl_c else type(error)):
        start_simulation(
            client_fn=lambda context: Tells(),
            num_clients=2,
            strategy=FedAvg(initial_parameters=START, evaluate_fn=raises),
            backend="inline",
            progress=False,
            store=tmp_path,
        )
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == (0 if ctrl_c else 1)
    for line in said:
        assert re.search(rf"^evaluate\(\) .*has raised {type(error).__name__}\. .*umbel resume ", line)
