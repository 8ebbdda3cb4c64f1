"""q-FedAvg: whose loss counts, and what one client's loss cannot do to the others."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.aggregators import fair
from umbel.common import ndarrays_to_parameters
from umbel.errors import StrategyError
from umbel.server.strategy import QFedAvg
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Learner(NumPyClient):
    """Goes `step` away from the model, and says its loss where it has one."""

    def __init__(self, step, loss=None):
        self.step, self.metrics = step, {} if loss is None else {"loss": loss}

    def fit(self, parameters, config):
        return [parameters[0] + self.step], 1, dict(self.metrics)


def trained(losses, steps=(1.0, 1.0, 1.0), rounds=1, **keywords):
    strategy = QFedAvg(initial_parameters=ndarrays_to_parameters([np.zeros(2)]), fraction_evaluate=0.0, **keywords)
    clients = {str(i): Learner(step, loss) for i, (step, loss) in enumerate(zip(steps, losses, strict=True))}
    return run_locally(strategy, clients, num_rounds=rounds).arrays[0]


def by_hand(losses, steps, q, rate):
    """Algorithm 2 of the paper on two coordinates, as it is written."""
    f, d = np.array(losses) + 1e-10, np.array(steps)
    h = q * f ** (q - 1) * 2 * (d / rate) ** 2 + f**q / rate
    return float((f**q * d / rate).sum() / h.sum())


@pytest.mark.parametrize("q", [0.0, 0.2, 2.0])
def test_losses_count_as_in_the_paper(q):
    losses, steps = (0.5, 2.0, 0.0 if q != 0.2 else 0.1), (1.0, 2.0, -1.0)
    assert np.allclose(trained(losses, steps, q_param=q, qffl_learning_rate=0.1), by_hand(losses, steps, q, 0.1))


@pytest.mark.parametrize("odd", [-1.0, None])
def test_an_update_without_a_loss_that_can_be_is_left_out(odd):
    assert np.array_equal(trained((0.5, 2.0, odd), (1.0, 2.0, 100.0)), trained((0.5, 2.0), (1.0, 2.0)))


def test_without_any_loss_that_can_be_the_model_stays():
    assert trained((-1.0, -2.0, -3.0)).tolist() == [0.0, 0.0]
    with pytest.raises(StrategyError, match="QFedAvg needs the loss of the present model"):
        trained((None, None, None))


def test_a_loss_too_large_for_its_power_leaves_the_model_finite():
    assert np.allclose(trained((1.0, 1.0, 1e200), (1.0, 1.0, 2.0), q_param=2.0, rounds=2), [4.0, 4.0])
    assert np.isfinite(trained((1.0, 1.0, 1.7e308), q_param=3.0)).all()


def test_the_server_s_loss_stands_for_all_also_in_rounds_without_evaluation():
    def measured(number, arrays, config):
        return 2.0, {}

    whole = trained((None, None, None), rounds=3, evaluate_fn=measured)
    assert np.array_equal(trained((None, None, None), rounds=3, evaluate_fn=measured, evaluate_every=2), whole)
    assert np.allclose(trained((None, None, None), evaluate_fn=measured), by_hand((2.0,) * 3, (1.0,) * 3, 0.2, 0.1))


def test_the_loss_may_come_from_an_evaluation_of_one_s_own():
    class Own(QFedAvg):
        def evaluate(self, server_round, parameters):
            return 2.0, {}

    strategy = Own(initial_parameters=ndarrays_to_parameters([np.zeros(2)]), fraction_evaluate=0.0)
    made = run_locally(strategy, {name: Learner(1.0) for name in "abc"}).arrays[0]
    assert np.allclose(made, by_hand((2.0,) * 3, (1.0,) * 3, 0.2, 0.1))


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"q=-1 must be 0 or more"):
        fair(-1, 0.1)
