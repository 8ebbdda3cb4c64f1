"""Logarithms, normals and gammas of our own: right to the last bits, and from the distribution that they claim."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.datasets.partition.draws import dirichlet_weights, exp, log, log_gamma, normal, weights_of_logs
from umbel.rng import frozen_stream


@given(st.floats(1e-300, 1e300))
def test_log_is_the_logarithm(x):
    assert log(np.array([x]))[0] == pytest.approx(math.log(x), rel=1e-15, abs=1e-16)


@given(st.floats(-690, 690))
def test_exp_is_the_exponential(x):
    assert exp(np.array([x]))[0] == pytest.approx(math.exp(x), rel=1e-15)


def distance(drawn, distribution_function):
    """Kolmogorov and Smirnov's: how far the draws' distribution is from what it should be, in units of 1/√n."""
    ordered = np.array([distribution_function(value) for value in np.sort(drawn)])
    n = len(ordered)
    grid = np.arange(n + 1) / n
    return max((grid[1:] - ordered).max(), (ordered - grid[:-1]).max()) * math.sqrt(n)


def test_normal_draws_are_normal():
    assert distance(normal(frozen_stream(1, "normal"), 20_000), NormalDist().cdf) < 1.63  # 1 % of fair draws are beyond


def test_gamma_of_shape_1_is_exponential_and_of_shape_3_the_sum_of_three():
    draws = np.exp(log_gamma(frozen_stream(1, "gamma"), np.ones(20_000)))
    assert distance(draws, lambda x: 1 - math.exp(-x)) < 1.63
    draws = np.exp(log_gamma(frozen_stream(2, "gamma"), np.full(20_000, 3.0)))
    assert distance(draws, lambda x: 1 - math.exp(-x) * (1 + x + x * x / 2)) < 1.63


def test_gamma_of_shape_one_half_is_half_a_squared_normal():
    draws = np.exp(log_gamma(frozen_stream(3, "gamma"), np.full(20_000, 0.5)))
    assert distance(draws, lambda x: math.erf(math.sqrt(x))) < 1.63


def test_tiny_shapes_do_not_vanish():
    drawn = log_gamma(frozen_stream(4, "gamma"), np.full(2_000, 1e-4))
    assert np.isfinite(drawn).all()
    # −shape · log is close to an exponential draw
    assert float(np.mean(-drawn * 1e-4)) == pytest.approx(1.0, abs=0.1)


def test_dirichlet_shares_have_the_mean_and_variance_of_their_law():
    alpha = np.array([0.2, 1.0, 3.0])
    weights = dirichlet_weights(frozen_stream(1, "dirichlet"), alpha, 20_000)
    shares = weights / weights.sum(axis=1, keepdims=True)
    mean = alpha / alpha.sum()
    variance = mean * (1 - mean) / (alpha.sum() + 1)
    np.testing.assert_allclose(shares.mean(axis=0), mean, atol=0.01)
    np.testing.assert_allclose(shares.var(axis=0), variance, rtol=0.05)


def test_no_weight_is_nought():
    assert weights_of_logs(np.array([0.0, -5000.0])).tolist() == [2**40 + 1, 1]
