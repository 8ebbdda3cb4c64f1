"""scikit-learn's estimators as clients: owners who have only some of the classes, and rows that nobody pools."""

from functools import partial

import numpy as np
import pytest

import umbel as fl
from umbel.errors import StrategyError
from umbel.frameworks.errors import ParametersMismatch, ParametersNotReady
from umbel.server.strategy import FedAvg
from umbel.testing import run_locally

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its adapter is not tested")

from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from umbel.frameworks.sklearn import Agreed, client, load, parameters_of

DRAW = np.random.default_rng(7)
CENTERS = DRAW.normal(scale=4, size=(4, 6)) + 9  # positive, for counts
LABELS = DRAW.integers(4, size=240)
ROWS = np.abs(CENTERS[LABELS] + DRAW.normal(size=(240, 6)))
TARGETS = ROWS @ DRAW.normal(size=6) + 3
# Three owners: the first has two of the four classes, the second the other two, the third one class only.
OWNERS = [np.flatnonzero(LABELS < 2), np.flatnonzero(LABELS > 1), np.flatnonzero(LABELS == 3)]
TEXTS = np.array(["ash", "birch", "cedar", "douglas fir"])


@pytest.fixture(autouse=True)
def one_thread():
    """As in simulations. Threads that wait for a busy machine would take a thousand times as long as such small sums."""
    with threadpool_limits(1):
        yield


def owner(number, labels=LABELS, rows=ROWS):
    return rows[OWNERS[number]], labels[OWNERS[number]]


def federate(model, data=owner, rounds=2, strategy=None, **options):
    """The run of three owners of the data, and the estimator that it ends with."""
    clients = {str(number): client(model, data=data(number), **options) for number in range(3)}
    run = run_locally(strategy or FedAvg(), clients, num_rounds=rounds)
    assert run.history.failures == []
    return run, load(type(model)(**model.get_params()), run.arrays)


def rows_of_all(labels=LABELS, rows=ROWS):
    everybody = np.concatenate(OWNERS)
    return rows[everybody], labels[everybody]


CLASSIFIERS = {
    "SGD": SGDClassifier(random_state=0),
    "SGD, averaged": SGDClassifier(loss="log_loss", average=True, random_state=0),
    "perceptron": Perceptron(),
    "logistic": LogisticRegression(C=0.01, max_iter=3),
    "ridge": RidgeClassifier(),
    "network": MLPClassifier((8,), learning_rate_init=0.05, random_state=0),
    "network by lbfgs": MLPClassifier((8,), solver="lbfgs", max_iter=3, random_state=0),
    "bayes": GaussianNB(),
}


@pytest.mark.parametrize("labels", [TEXTS[LABELS], LABELS.astype(float)], ids=["text", "floats"])
def test_classes_are_numbers_or_text(labels):
    _, numbers = federate(SGDClassifier(random_state=0), rounds=1, classes=range(4))
    options = {"classes": np.unique(labels)}
    _, made = federate(SGDClassifier(random_state=0), partial(owner, labels=labels), rounds=1, **options)
    assert made.predict(ROWS).tolist() == np.unique(labels)[numbers.predict(ROWS)].tolist()


@pytest.mark.frameworks
@pytest.mark.parametrize("model", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_owners_of_some_classes_learn_all_of_them(model):
    run, made = federate(model, rounds=8, strategy=Agreed(FedAvg(), model=model))
    assert made.classes_.tolist() == [0, 1, 2, 3]
    assert made.score(*rows_of_all()) > 0.6  # more than two classes alone would give
    assert run.history.metrics_distributed["accuracy"][-1][1] == pytest.approx(made.score(*rows_of_all()))


@pytest.mark.parametrize("model", [GaussianNB(), MultinomialNB(), BernoulliNB(binarize=9), ComplementNB()], ids=repr)
def test_one_round_of_naive_bayes_is_all_rows_in_one_place(model):
    _, made = federate(model, rounds=1, strategy=Agreed(FedAvg(), model=model))
    pooled = type(model)(**model.get_params()).fit(*rows_of_all())
    fitted = [name for name in vars(pooled) if name.endswith("_") and name != "classes_"]
    for name in fitted:
        assert np.allclose(getattr(made, name), getattr(pooled, name), rtol=1e-12, atol=0), name
    assert "class_count_" in fitted


def test_variances_keep_their_digits_where_means_are_large():
    far = ROWS + 1e6
    _, made = federate(GaussianNB(var_smoothing=0), partial(owner, rows=far), rounds=2, classes=range(4))
    assert np.allclose(made.var_, GaussianNB(var_smoothing=0).fit(*rows_of_all(rows=far)).var_, rtol=1e-6)


@pytest.mark.parametrize("model", [KMeans(4, random_state=1), MiniBatchKMeans(4, random_state=1, reassignment_ratio=0)])
def test_a_round_of_k_means_is_an_iteration_on_all_rows(model):
    def rows(number):
        return owner(number)[0]

    _, made = federate(model, rows, rounds=3)
    first = parameters_of_first(model, rows)["cluster_centers_"]
    pooled = KMeans(4, init=first, n_init=1, max_iter=3, tol=0).fit(rows_of_all()[0])
    assert np.allclose(made.cluster_centers_, pooled.cluster_centers_, rtol=1e-12)


def parameters_of_first(model, rows):
    arrays = client(model, data=rows(0)).get_parameters({})
    return parameters_of(load(type(model)(**model.get_params()), arrays))


def test_a_cluster_without_rows_stays_where_it_is():
    far = np.full((1, 6), 1e3)
    start = np.vstack([CENTERS[:2], far])
    _, made = federate(KMeans(3, init=start, n_init=1), lambda number: owner(number)[0], rounds=2)
    assert made.cluster_centers_[2].tolist() == far[0].tolist()
    assert not np.allclose(made.cluster_centers_[:2], CENTERS[:2])


def test_a_target_may_be_a_table_of_one_column():
    for model in (Ridge(), LinearRegression(), SGDRegressor(random_state=0)):
        _, column = federate(model, partial(owner, labels=TARGETS[:, np.newaxis]))
        _, plain = federate(model, partial(owner, labels=TARGETS))
        assert column.predict(ROWS).tolist() == plain.predict(ROWS).tolist()


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("model", [LinearRegression(), Ridge(fit_intercept=False), MLPRegressor(random_state=0)], ids=repr)
def test_regressors_learn_one_target_and_several(model, columns):
    targets = TARGETS if columns == 1 else np.stack([TARGETS, -TARGETS], axis=1)
    run, made = federate(model, partial(owner, labels=targets))
    assert made.predict(ROWS).shape == targets.shape
    losses = [loss for _, loss in run.history.losses_distributed]
    assert losses[-1] <= losses[0]
    if isinstance(model, LinearRegression):  # the rows are without noise: each owner has found the truth
        assert np.allclose(made.predict(ROWS), targets)


def test_sgd_goes_on_with_its_learning_rate():
    run, made = federate(SGDRegressor(random_state=0), partial(owner, labels=TARGETS), rounds=3)
    assert 2 * 30 < made.t_ < 3 * 240
    again = load(SGDRegressor(), run.arrays)
    assert again.t_ == made.t_


def test_functions_of_one_s_own_take_the_estimator():
    def train(model, data, config):
        model.partial_fit(*data)
        return {"rows": len(data[1])}

    run, _ = federate(SGDClassifier(random_state=0), classes=range(4))
    own = {str(i): client(SGDClassifier(random_state=0), train, data=owner(i), classes=range(4)) for i in range(3)}
    mine = run_locally(FedAvg(), own, num_rounds=2)
    assert [a.tolist() for a in mine.arrays] == [a.tolist() for a in run.arrays]
    assert mine.history.metrics_distributed_fit["rows"]


@pytest.mark.parametrize("kind", ["lists", "frame", "sparse", "float32"])
def test_tables_come_in_many_forms(kind):
    def table(number):
        rows, labels = owner(number)
        if kind == "lists":
            return rows.tolist(), labels.tolist()
        if kind == "frame":
            pandas = pytest.importorskip("pandas")
            return pandas.DataFrame(rows, columns=list("abcdef")), pandas.Series(labels)
        sparse = pytest.importorskip("scipy.sparse")
        return (sparse.csr_matrix(rows) if kind == "sparse" else rows.astype("float32")), labels

    for model in (LogisticRegression(max_iter=3), SGDClassifier(random_state=0)):
        _, made = federate(model, table, rounds=1, classes=range(4))
        _, plain = federate(model, rounds=1, classes=range(4))
        assert np.allclose(made.coef_, plain.coef_, rtol=1e-2, atol=1e-4)


# ---- bad input


@pytest.mark.parametrize("model", [RandomForestClassifier(), SVC()], ids=repr)
def test_what_cannot_be_federated_is_refused_with_what_can(model):
    with pytest.raises(TypeError, match=r"SGDClassifier.*GaussianNB.*KMeans"):
        client(model, data=owner)
    with pytest.raises(TypeError, match=r"umbel\.frameworks\.xgboost|SGDClassifier\(loss='hinge'\)"):
        client(model, data=owner)


def test_an_estimator_that_is_not_fitted_has_no_parameters_yet():
    with pytest.raises(ParametersNotReady, match=r"SGDClassifier is not fitted.*classes=\[…\] and features=n"):
        parameters_of(SGDClassifier())
    with pytest.raises(ParametersNotReady, match="not fitted"):
        client(SGDClassifier(), lambda model: None).get_parameters({})
    told = client(SGDClassifier(), lambda model: None, classes="ab", features=3).get_parameters({})
    assert [array.shape for array in told.values()] == [(1, 3), (1,), (2, 1), ()]


def test_a_class_that_the_model_does_not_know_is_named():
    clients = {str(i): client(SGDClassifier(), data=owner(i)) for i in range(3)}
    run = run_locally(FedAvg(), clients)
    assert "the class 2, the model knows [0, 1]. Name all classes" in run.history.failures[0].text
    assert "strategy=Agreed(FedAvg(), model=estimator)" in run.history.failures[0].text


@pytest.mark.parametrize("options", [{}, {"strategy": FedAvg()}], ids=["by name", "an object"])
def test_federate_begins_with_the_classes_of_all_owners(options):
    fed = fl.federate(SGDClassifier(random_state=0), data=owner)
    history = fed.simulate(clients=3, rounds=2, backend="inline", progress=False, **options)
    assert history.failures == []
    assert history.model.classes_.tolist() == [0, 1, 2, 3]


def test_federate_without_a_row_that_can_be_learned_from_says_so():
    with pytest.raises(StrategyError):
        fl.federate(SGDClassifier()).simulate(clients=3, backend="inline", progress=False)
    with pytest.raises(TypeError, match=r"there are no rows: data= was not given"):
        client(SGDClassifier()).get_properties({})
    fed = fl.federate(SGDClassifier(), data=lambda number: (ROWS * np.nan, LABELS))
    history = fed.simulate(clients=3, backend="inline", progress=False)
    raised = {failure.text.partition(":")[0] for failure in history.failures}
    assert raised == {"fit raised ValueError", "evaluate raised ParametersMismatch"}
    with pytest.raises(ParametersMismatch, match="no client's training has counted so far"):
        history.model  # noqa: B018


def test_federate_asks_nobody_where_classes_are_named():
    fed = fl.federate(client(SGDClassifier(random_state=0), classes=range(5)), data=owner)
    history = fed.simulate(clients=3, rounds=1, backend="inline", progress=False)
    assert history.failures == []
    assert history.model.classes_.tolist() == [0, 1, 2, 3, 4]


def test_an_owner_of_one_class_says_how_to_name_the_others():
    with pytest.raises(ParametersNotReady, match=r"needs two classes, and \[3\] is all"):
        client(SGDClassifier(), data=owner(2)).get_parameters({})


def test_tables_of_different_columns_end_the_run_before_the_first_round():
    clients = {"a": client(SGDClassifier(), data=owner(0)), "b": client(SGDClassifier(), data=(ROWS[:, :5], LABELS))}
    with pytest.raises(StrategyError, match="one client has 6 features, another has 5"):
        run_locally(Agreed(FedAvg(), model=SGDClassifier()), clients)


def test_parameters_of_another_model_are_refused_and_nothing_is_written():
    fitted = LinearRegression().fit(ROWS, TARGETS)
    before = parameters_of(fitted)
    with pytest.raises(ParametersMismatch, match="coef_"):
        load(fitted, {"coef_": np.zeros(2), "intercept_": 0.0})
    assert all(np.array_equal(parameters_of(fitted)[name], array) for name, array in before.items())


@pytest.mark.frameworks
def test_processes_make_the_same_bits():
    """A generator among the settings, too, begins anew with each task."""
    model = SGDClassifier(random_state=np.random.RandomState(3))
    histories = [
        fl.simulation.start_simulation(
            client_fn=client(model, data=owner, classes=range(4)),
            num_clients=3,
            config=fl.server.ServerConfig(num_rounds=2),
            progress=False,
            **how,
        )
        for how in ({"backend": "inline"}, {"backend": "processes", "workers": 2})
    ]
    assert histories[0] == histories[1]
    assert histories[0].failures == []


def test_federate_with_a_train_of_one_s_own_begins_with_the_classes_of_all_owners_too():
    def train(model, data):
        model.partial_fit(*data)
        return len(data[0])

    history = fl.federate(SGDClassifier(random_state=0), train, data=owner).simulate(
        clients=3, rounds=2, backend="inline", progress=False
    )
    assert history.failures == []
    assert history.model.classes_.tolist() == [0, 1, 2, 3]
