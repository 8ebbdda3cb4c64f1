"""What a run leaves behind, as values, as a repr and as a table."""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest

from umbel.rounds import notices
from umbel.rounds.coordinator import State
from umbel.runtime.observers.history import FailureNote, History
from umbel.runtime.observers.outcome import outcome_of
from umbel.runtime.observers.table import table

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
STORY = [
    notices.RunStarted(0.0, 1),
    notices.CentrallyEvaluated(0.0, 0, 2.3, {"accuracy": 0.1}),
    notices.TaskFailed(1.0, 1, "fit", "c", "raised", "fit raised ValueError: no", "Traceback"),
    notices.ExchangeClosed(1.0, 1, "fit", 2, 1, 1.0, None, {"loss": 1.5}),
    notices.CentrallyEvaluated(1.0, 1, 0.5, {"accuracy": 0.8}),
    notices.ExchangeClosed(2.0, 1, "evaluate", 2, 0, 1.0, 0.75, {"accuracy": 0.7}),
    notices.RunFinished(2.0, 1, "all rounds done"),
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
        (notices.RunFinished(0.0, 1, "all rounds done"), "finished"),
        (notices.RunFinished(0.0, 1, "Ctrl-C", "", True), "stopped"),
        (notices.RunFinished(0.0, 1, "too few", "QuorumNotMet"), "failed"),
    ]:
        outcome = outcome_of(State(num_rounds=1, ended=event))
        assert (outcome.status, outcome.why) == (status, event.why)


def failed(number, kind, client):
    return notices.TaskFailed(1.0, number, kind, client, "raised", f"{kind} raised ValueError: {client} of {number}")


def closed(number, kind):
    return notices.ExchangeClosed(1.0, number, kind, 5, 5, 1.0)


def test_failures_of_an_exchange_are_in_the_order_of_clients_whatever_the_order_of_arrival():
    seen = []
    for seed in range(5):
        order = random.Random(seed)
        history = History()
        for number in (1, 2):
            for kind in ("fit", "evaluate"):
                for client in order.sample(["2", "10", "b", "a", "9"], 5):
                    history.observe(failed(number, kind, client))
                history.observe(closed(number, kind))
        seen.append(history)
    assert [note.client for note in seen[0].failures] == ["2", "9", "10", "a", "b"] * 4
    assert [(note.round, note.kind) for note in seen[0].failures[::5]] == [
        (1, "fit"), (1, "evaluate"), (2, "fit"), (2, "evaluate"),
    ]  # fmt: skip
    assert all(history == seen[0] for history in seen)


def test_a_client_that_fails_in_two_attempts_keeps_their_order():
    history = History()
    for client, text in (("1", "first"), ("0", "first"), ("1", "second"), ("0", "second")):
        history.observe(notices.TaskFailed(1.0, 1, "fit", client, "raised", text))
    history.observe(closed(1, "fit"))
    assert [(n.client, n.text) for n in history.failures] == [
        ("0", "first"), ("0", "second"), ("1", "first"), ("1", "second"),
    ]  # fmt: skip


def test_a_metric_called_loss_does_not_hide_the_loss():
    seen = History()
    seen.add_loss_distributed(1, 0.5)
    seen.add_metrics_distributed(1, {"loss": 0.25})
    assert seen.columns() == {"loss": {1: 0.5}, "loss (metric)": {1: 0.25}}


def test_json_is_read_back_exactly():
    assert History.from_json(history().to_json()) == history()
    assert History.from_json(History().to_json()) == History()


@pytest.mark.parametrize(
    "value",
    [
        0.1, 1e-320, -0.0, 1.0, math.inf, -math.inf, True, 1, 2**63, "Zürich\ud800", b"", b"\x00\xff", None, [1, [b"a"]],
        {"a": {"b": 1.5}}, {"$bytes": "YWI="}, {"$x": 1}, {1: "one", b"k": [math.inf]}, {"$float": "nan", "b": 2},
    ],
)  # fmt: skip
def test_json_keeps_values_that_json_does_not_have(value):
    seen = History(metrics_centralized={"odd": [(0, value)]})
    ((_, read),) = History.from_json(seen.to_json()).metrics_centralized["odd"]
    assert repr(read) == repr(value)


def test_json_keeps_not_a_number_and_writes_what_any_reader_of_json_takes():
    text = History(losses_distributed=[(1, math.nan)]).to_json()
    assert '[[1, {"$float": "nan"}]]' in text
    assert math.isnan(History.from_json(text).losses_distributed[0][1])


def test_json_takes_numbers_and_arrays_of_numpy_as_plain_ones():
    seen = History(metrics_centralized={"a": [(0, np.float32(0.5))], "b": [(0, np.arange(2))], "c": [(0, (1, 2))]})
    assert History.from_json(seen.to_json()).metrics_centralized == {"a": [(0, 0.5)], "b": [(0, [0, 1])], "c": [(0, [1, 2])]}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 100_000, "{}", '{"losses_distributed": 3}', '{"losses_distributed": [[1, {"$bytes": "?"}]]}', "\x00"],
)
def test_json_of_something_else_is_refused(text):
    with pytest.raises(ValueError, match="not a History"):
        History.from_json(text)


def test_numbers_that_are_very_small_or_very_large_show_their_digits():
    losses = History(losses_distributed=[(1, 7.084501891219393e-31), (2, 7.458052109841265e25), (3, 0.0)])
    assert table(losses) == ["round       loss", "    1  7.085e-31", "    2  7.458e+25", "    3     0.0000"]


def test_a_frame_has_a_row_per_round_and_the_columns_of_the_table():
    pytest.importorskip("pandas")
    frame = history().to_pandas()
    assert re.split("  +", table(history())[0]) == ["round", *frame.columns]
    assert frame.index.name == "round"
    assert frame.index.tolist() == [0, 1]
    assert frame.loc[1].tolist() == [0.75, 0.5, 1.5, 0.7, 0.8]
    assert frame["loss"].isna().tolist() == [True, False]
    assert [str(kind) for kind in frame.dtypes] == ["float64"] * 5


def test_a_frame_of_an_empty_history_is_empty_and_takes_metrics_of_every_type():
    pytest.importorskip("pandas")
    assert History().to_pandas().empty
    seen = History(metrics_centralized={"note": [(1, "good"), (2, b"bad")], "steps": [(1, 3), (2, 4)]})
    frame = seen.to_pandas()
    assert frame["central note"].tolist() == ["good", b"bad"]
    assert str(frame["central steps"].dtype) == "int64"


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_a_picture_has_a_panel_per_name_and_a_line_per_source(pyplot):
    panels = history().plot().axes
    assert [panel.get_title() for panel in panels] == ["loss", "accuracy"]
    lines = {line.get_label(): line for line in panels[0].lines}
    assert set(lines) == {"clients", "central", "fit"}
    assert lines["central"].get_xydata().tolist() == [[0, 2.3], [1, 0.5]]
    assert lines["fit"].get_xydata().tolist() == [[1, 1.5]]
    assert [line.get_label() for line in panels[1].lines] == ["clients", "central"]


def test_runs_are_compared_on_the_same_axes(pyplot):
    figure, axes = pyplot.subplots()
    for name in ("first", "second"):
        assert History(losses_distributed=[(1, 0.5)]).plot("loss", axes=axes, label=name) is figure
    assert [line.get_label() for line in axes.lines] == ["first", "second"]


def test_a_picture_leaves_out_what_is_no_number(pyplot):
    seen = History(metrics_distributed={"note": [(1, "good")], "accuracy": [(1, 0.5), (2, math.nan)]})
    assert [panel.get_title() for panel in seen.plot().axes] == ["accuracy"]
    with pytest.raises(ValueError, match=r"no numbers under 'note'; it has 'accuracy'"):
        seen.plot("note")
    with pytest.raises(ValueError, match="takes one panel"):
        seen.plot(axes=pyplot.subplots()[1])
    assert all(not panel.lines for panel in History().plot().axes)


def test_a_picture_needs_no_screen(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    code = """
from umbel.server import History
History(losses_distributed=[(1, 0.5), (2, 0.25)]).plot().savefig("loss.png")
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={**ENVIRONMENT, "HOME": str(tmp_path)})
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("method", "library"), [("plot", "matplotlib"), ("to_pandas", "pandas")])
def test_a_missing_library_is_named_with_the_remedy(monkeypatch, method, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"{library}.*pip install 'umbel\[plot\]'"):
        getattr(history(), method)()
