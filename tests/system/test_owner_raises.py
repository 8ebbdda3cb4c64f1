"""The owner's own code raises, or is asked what it cannot take: which of it costs the run, and how that goes on."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.system

UMBEL = ("-c", "from umbel.cli import main; main()")

SERVER = """
import sys
import numpy as np
import umbel as fl

def weighted_average(metrics):
    accuracies = [num_examples * m["accuracy"] for num_examples, m in metrics]
    return {"accuracy": sum(accuracies) / sum(num_examples for num_examples, _ in metrics)}

def evaluate(number, arrays, config):
    print("asked about round", number, flush=True)
    BROKEN
    return float(number), {}

fl.server.start_server(
    server_address=sys.argv[1],
    config=fl.server.ServerConfig(num_rounds=4),
    strategy=fl.server.strategy.FedAvg(
        evaluate_fn=evaluate,
        evaluate_metrics_aggregation_fn=weighted_average,
        on_fit_config_fn=lambda number: {"round": number},
        on_evaluate_config_fn=lambda number: {"round": number},
        initial_parameters=fl.common.ndarrays_to_parameters([np.zeros(3, "float32")]),
    ),
)
"""


def test_a_script_that_raised_is_mended_and_goes_on_and_a_metric_that_is_missing_costs_no_run(federation):
    script = federation.folder / "own.py"
    script.write_text(SERVER.replace("BROKEN", "if number == 2: raise LookupError('mend me')"))
    first = federation.program("server", script, federation.address)
    members = federation.clients("a", "b", size=3)  # they report no accuracy
    assert first.ends() == 1
    (run, command) = re.search(r"run (\S+), .*\n(?:.*\n)*.*(umbel resume \S+)", first.text).groups()
    assert command == f"umbel resume {run}"
    kept = "The run is kept as it was before: mend the script, then go on with: "
    line = f"evaluate() after round 2 has raised LookupError. {kept}{command}"
    assert line in first.text
    assert first.text.strip().splitlines()[-1] == "LookupError: mend me"
    raised = "weighted_average() (evaluate_metrics_aggregation_fn) raised KeyError: 'accuracy'"
    assert f"{raised} ({script}, line 7); the metrics of clients a, b have no 'accuracy'; they have 'examples'" in first.text

    again = federation.program("server", script, federation.address)  # as it is: the same is asked, and fails the same way
    assert again.ends() == 1
    assert "asked about round 1" not in again.text
    assert again.text.count("asked about round 2") == 1
    assert line in again.text

    script.write_text(SERVER.replace("BROKEN", ""))
    mended = federation.program("server", *UMBEL, "resume", run)
    assert mended.ends() == 0
    assert re.findall(r"asked about round (\d)", mended.text) == ["2", "3", "4"]
    assert all(member.ends() == 0 for member in members)
    (folder,) = (path for path in (federation.folder / "umbel-runs").iterdir() if path.is_dir())
    assert folder.name == run
