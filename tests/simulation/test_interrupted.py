"""Ctrl-C in a simulation ends what the person who presses it thinks of: the script, or the cell of a notebook."""

from __future__ import annotations

import logging
import signal
import sys

import numpy as np
import pytest

import umbel as fl
from umbel.common import ndarrays_to_parameters


class Adds(fl.client.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1], 1, {}


def sweep(begun):
    """Three simulations, of which the second meets Ctrl-C in its second round."""
    for number in range(3):
        begun.append(number)

        def evaluate(round, arrays, config, number=number):
            if (number, round) == (1, 2):
                signal.raise_signal(signal.SIGINT)
            return float(round), {}

        fl.simulation.start_simulation(
            client_fn=lambda context: Adds(),
            num_clients=2,
            config=fl.server.ServerConfig(num_rounds=3),
            backend="inline",
            strategy=fl.server.strategy.FedAvg(
                initial_parameters=ndarrays_to_parameters([np.zeros(2)]), fraction_evaluate=0, evaluate_fn=evaluate
            ),
        )


def test_ctrl_c_ends_a_script_with_its_loop_after_the_history_is_printed(caplog):
    begun = []
    with caplog.at_level(logging.INFO, "umbel"), pytest.raises(SystemExit) as end:
        sweep(begun)
    assert (end.value.code, begun) == (130, [0, 1])
    assert "round 1: 1.0" in caplog.text.rpartition("History (")[2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_ends_a_notebook_s_cell_and_leaves_the_history(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    begun = []
    with pytest.raises(KeyboardInterrupt, match="stopped by Ctrl-C") as end:
        sweep(begun)
    assert begun == [0, 1]
    assert end.value.history.losses_centralized == [(0, 0.0), (1, 1.0)]
    assert end.value.history.interrupted
    assert end.value.history.parameters[0].tolist() == [2.0, 2.0]  # evaluated or not, the second round had made it
