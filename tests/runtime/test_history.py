"""What a run leaves behind, as values, as a repr and as a table."""

from __future__ import annotations

from umbel.rounds import events
from umbel.runtime.observers.history import FailureNote, History
from umbel.runtime.observers.outcome import Outcome
from umbel.runtime.observers.table import table

STORY = [
    events.RunStarted(0.0, 1),
    events.CentrallyEvaluated(0.0, 0, 2.3, {"accuracy": 0.1}),
    events.TaskFailed(1.0, 1, "fit", "c", "raised", "fit raised ValueError: no", "Traceback"),
    events.ExchangeClosed(1.0, 1, "fit", 2, 1, 1.0, None, {"loss": 1.5}),
    events.CentrallyEvaluated(1.0, 1, 0.5, {"accuracy": 0.8}),
    events.ExchangeClosed(2.0, 1, "evaluate", 2, 0, 1.0, 0.75, {"accuracy": 0.7}),
    events.RunFinished(2.0, 1, "all rounds done"),
]


def history():
    seen = History()
    for event in STORY:
        seen.observe(event)
    return seen


def test_a_history_is_folded_from_events():
    seen = history()
    assert seen.losses_centralized == [(0, 2.3), (1, 0.5)]
    assert seen.metrics_centralized == {"accuracy": [(0, 0.1), (1, 0.8)]}
    assert seen.metrics_distributed_fit == {"loss": [(1, 1.5)]}
    assert seen.losses_distributed == [(1, 0.75)]
    assert seen.metrics_distributed == {"accuracy": [(1, 0.7)]}
    assert seen.failures == [FailureNote(1, "fit", "c", "raised", "fit raised ValueError: no", "Traceback")]


def test_a_history_survives_a_snapshot():
    assert History.from_bytes(history().to_bytes()) == history()
    assert History.from_bytes(History().to_bytes()) == History()


def test_a_history_reads_well():
    text = repr(history())
    assert text.startswith("History (loss, distributed:\n\tround 1: 0.75\n")
    assert "metrics, centralized:\n\taccuracy: [(0, 0.1), (1, 0.8)]" in text
    assert text.endswith("failures: 1)")
    assert repr(History()) == "History (empty)"


def test_a_table_has_a_line_per_round():
    assert table(history()) == [
        "round    loss  central loss  fit loss  accuracy  central accuracy",
        "    0                2.3000                                0.1000",
        "    1  0.7500        0.5000    1.5000    0.7000            0.8000",
    ]
    assert table(History()) == []


def test_the_classic_methods_add_by_hand():
    seen = History()
    seen.add_loss_distributed(1, 0.5)
    seen.add_loss_centralized(1, 0.6)
    seen.add_metrics_distributed_fit(1, {"a": 1})
    seen.add_metrics_distributed(1, {"a": 2})
    seen.add_metrics_centralized(1, {"a": 3})
    assert (seen.losses_distributed, seen.losses_centralized) == ([(1, 0.5)], [(1, 0.6)])
    assert (seen.metrics_distributed_fit, seen.metrics_distributed) == ({"a": [(1, 1)]}, {"a": [(1, 2)]})


def test_how_a_run_ended():
    for event, status in [
        (events.RunFinished(0.0, 1, "all rounds done"), "finished"),
        (events.RunFinished(0.0, 1, "Ctrl-C", "", True), "stopped"),
        (events.RunFinished(0.0, 1, "too few", "QuorumNotMet"), "failed"),
    ]:
        outcome = Outcome()
        outcome.observe(event)
        assert (outcome.status, outcome.why) == (status, event.why)
