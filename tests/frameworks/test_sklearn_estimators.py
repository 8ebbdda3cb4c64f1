"""FederatedClassifier and FederatedRegressor, as scikit-learn's own estimators are tested."""

import logging

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not tested")

from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from umbel.frameworks.sklearn import FederatedClassifier, FederatedRegressor
from umbel.server.strategy import FedAvgM

DRAW = np.random.default_rng(5)
CENTERS = DRAW.normal(scale=4, size=(3, 4)) + 9
LABELS = DRAW.integers(3, size=120)
ROWS = np.abs(CENTERS[LABELS] + DRAW.normal(size=(120, 4)))
OWNERS = np.where(LABELS == 0, "north", np.where(DRAW.random(120) < 0.5, "south", "east"))  # classes are spread unevenly


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


@pytest.mark.frameworks
@parametrize_with_checks(
    [
        FederatedClassifier(SGDClassifier(random_state=0), rounds=5, random_state=0),
        FederatedClassifier(GaussianNB(), rounds=1),
        FederatedRegressor(Ridge(), rounds=2),
    ]
)
def test_scikit_learn_takes_them_for_its_own(estimator, check):
    check(estimator)


def test_naive_bayes_of_three_owners_is_that_of_all_rows():
    made = FederatedClassifier(MultinomialNB(), rounds=1).fit(ROWS, LABELS, groups=OWNERS)
    pooled = MultinomialNB().fit(ROWS, LABELS)
    assert np.allclose(made.predict_proba(ROWS), pooled.predict_proba(ROWS))
    assert made.score(ROWS, LABELS) == pooled.score(ROWS, LABELS)
    assert made.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("strategy", ["fedavg", FedAvgM(server_momentum=0.5)], ids=["name", "object"])
def test_the_same_random_state_is_the_same_model_and_the_estimator_stays_as_it_is(strategy):
    inner = MLPClassifier((4,))
    made = FederatedClassifier(inner, rounds=2, strategy=strategy, random_state=3)
    first = made.fit(ROWS, LABELS, groups=OWNERS).predict_proba(ROWS)
    np.random.seed(99)
    again = clone(made).fit(ROWS, LABELS, groups=OWNERS).predict_proba(ROWS)
    assert np.array_equal(first, again)
    assert np.random.random() == np.random.RandomState(99).random()  # the program's own draws are its own
    assert not hasattr(inner, "coefs_")
    other = clone(made).set_params(random_state=4).fit(ROWS, LABELS, groups=OWNERS)
    assert not np.array_equal(first, other.predict_proba(ROWS))


def test_it_learns_what_no_owner_knows_and_says_nothing(caplog):
    with caplog.at_level(logging.INFO):
        made = FederatedClassifier(SGDClassifier(), rounds=10, random_state=0).fit(ROWS, LABELS, groups=OWNERS)
    assert caplog.records == []
    assert made.score(ROWS, LABELS) > 0.8
    assert made.decision_function(ROWS).shape == (120, 3)
    assert not hasattr(made, "predict_proba")  # SGDClassifier's hinge loss has no probabilities
    assert made.history_.failures == []


def test_regressors_have_several_targets_where_theirs_have():
    targets = ROWS @ DRAW.normal(size=(4, 2))
    made = FederatedRegressor(LinearRegression(), rounds=1).fit(ROWS, targets, groups=OWNERS)
    assert made.score(ROWS, targets) > 0.99
    with pytest.raises(ValueError, match="1d array"):
        FederatedRegressor(SGDRegressor(), rounds=1).fit(ROWS, targets)


def test_pipelines_and_cross_validation_take_groups():
    made = make_pipeline(StandardScaler(), FederatedClassifier(GaussianNB(), rounds=1))
    made.fit(ROWS, LABELS, federatedclassifier__groups=OWNERS)
    assert made.score(ROWS, LABELS) > 0.9
    owners = np.arange(120) % 6
    single = FederatedClassifier(GaussianNB(), rounds=1)
    found = cross_validate(single, ROWS, LABELS, groups=owners, cv=GroupKFold(3), params={})
    assert found["test_score"].min() > 0.8


def test_what_cannot_be_trained_says_why():
    with pytest.raises(TypeError, match=r"DecisionTreeClassifier has no parameters.*; trees are federated by"):
        FederatedClassifier(DecisionTreeClassifier()).fit(ROWS, LABELS)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FederatedClassifier(GaussianNB()).fit(ROWS, LABELS, groups=OWNERS[:5])
    with pytest.raises(ValueError, match="one class"):
        FederatedClassifier(GaussianNB()).fit(ROWS, np.zeros(120))
    with pytest.raises(ValueError, match="Negative values"):
        FederatedClassifier(MultinomialNB(), rounds=1).fit(ROWS - 100, LABELS, groups=OWNERS)
