"""fl.federate: one program for a laptop, a server and a hospital; with a framework of numpy's, a dict of arrays."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import umbel as fl
from umbel.datasets import FederatedDataset
from umbel.frameworks import Adapter
from umbel.server.strategy import FedAvg, FedAvgM


class Line:
    """y = body · x + head; it learns the mean of its data in both."""

    def __init__(self):
        self.tensors = {"body.w": np.random.default_rng(np.random.randint(1000)).normal(size=3), "head.b": np.zeros(2)}


class Dicts(Adapter[Line]):
    name = "dicts"

    def shapes_of(self, model):
        return {name: array.shape for name, array in model.tensors.items()}

    def arrays_of(self, model):
        return copy.deepcopy(model.tensors)

    def place(self, model, arrays):
        model.tensors = {name: array.copy() for name, array in arrays.items()}
        return model


def load(number):
    return np.random.default_rng(number).normal(size=(5 + number, 3))


def train(model, data, rate=0.5):
    model.tensors["body.w"] += rate * (data.mean(0) - model.tensors["body.w"])
    model.tensors["head.b"] += len(data) + np.random.random()


def test(model, data):
    return float(np.square(data - model.tensors["body.w"]).mean()), {"head": float(model.tensors["head.b"].sum())}


test.__test__ = False


def federated(data=load, **options):
    return fl.federate(Line, train, test, data, adapter=Dicts(), **options)


def watched(fed, **options):
    """The History, the last parameters, and the events of a simulation."""
    last, seen = {}, []

    class Keeps(fl.callbacks.Callback):
        def on_round_end(self, round, logs):
            last.clear()
            last.update({name: array.tolist() for name, array in self.parameters.items()})

    options = {"backend": "inline", "rounds": 2, "clients": 3, **options}
    history = fed.simulate(callbacks=[Keeps()], observers=[seen.append], progress=False, **options)
    return history, [*last.values()], seen


def test_a_model_is_simulated_and_begins_with_its_own_parameters_without_a_client_being_asked():
    history, _, seen = watched(federated())
    assert [number for number, _ in history.losses_distributed] == [1, 2]
    assert {event.kind for event in seen if isinstance(event, fl.events.TaskSent)} == {"fit", "evaluate"}
    client = fl.frameworks.ModelClient(Line, train, test, load, adapter=Dicts())
    options = {"num_clients": 3, "backend": "inline", "progress": False}
    asked = fl.simulation.start_simulation(client_fn=client, config=fl.server.ServerConfig(num_rounds=2), **options)
    assert asked == history  # what a client would have given is the same
    other, _, _ = watched(federated(), seed=1)
    assert other != history


def test_the_model_comes_home_as_the_user_s_own():
    models = []

    class Looks(fl.callbacks.Callback):
        def on_round_end(self, round, logs):
            models.append(self.model)

    history = federated().simulate(clients=3, rounds=2, backend="inline", progress=False, callbacks=[Looks()])
    assert [type(model) for model in [history.model, *models]] == [Line] * 3
    assert history.model.tensors["body.w"].tolist() == history.parameters["body.w"].tolist()
    history.model.mode = "eval"
    assert history.model.mode == "eval"  # what is done to it stays: it is one model
    assert models[1].tensors["body.w"].tolist() == history.parameters["body.w"].tolist()

    client = fl.frameworks.ModelClient(Line, train, test, load, adapter=Dicts())
    options = {"num_clients": 3, "backend": "inline", "progress": False, "callbacks": [Looks()]}
    simulated = fl.simulation.start_simulation(client_fn=client, config=fl.server.ServerConfig(num_rounds=2), **options)
    for model in (simulated.model, models[3]):
        assert model.tensors["body.w"].tolist() == history.parameters["body.w"].tolist()
    assert models[0].tensors["body.w"].tolist() != history.parameters["body.w"].tolist()
    best = federated(personal="head.*").simulate(clients=3, backend="inline", progress=False, keep_best="loss").best
    assert [*best.model.tensors] == ["body.w", "head.b"]
    assert best.parameters.names == ("body.w",)


def test_what_makes_no_model_or_no_data_is_said_with_the_remedy_before_anything_starts():
    def make(hidden, seed=0): ...

    def share(number, split): ...

    class Empty(Line):
        def __init__(self):
            self.tensors = {}

    with pytest.raises(TypeError, match=r"model=make takes 'hidden', and is called without arguments.*make\(hidden=…\)"):
        fl.federate(make, train, test, load, adapter=Dicts())
    with pytest.raises(ValueError, match="this Empty has no tensors"):
        fl.federate(Empty, train, test, load, adapter=Dicts()).simulate(clients=3)
    for returned, named in [(None, "nothing"), (Line, "the class Line")]:
        with pytest.raises(TypeError, match=f"the function that makes the model returned {named}; it returns a model"):
            fl.federate(lambda returned=returned: returned, train, test, load, adapter=Dicts()).simulate(clients=3)
    with pytest.raises(TypeError, match=r"data=share takes 'split' beside 'number'.*: give a default"):
        federated(share)
    with pytest.raises(ValueError, match="data= is a list for 2 clients, and clients= says 3"):
        federated([load(0), load(1)]).simulate(clients=3)
    with pytest.raises(TypeError, match="clients= is how many there are"):
        federated().simulate(client=3)


def test_without_a_test_there_is_no_loss_and_no_warning(caplog):
    with caplog.at_level("WARNING", "umbel"):
        history = fl.federate(Line, train, data=load, adapter=Dicts()).simulate(clients=3, backend="inline", progress=False)
    assert (history.losses_distributed, caplog.messages) == ([], [])


def test_the_run_leaves_the_caller_s_generators_and_his_model_alone():
    before = np.random.get_state()[1].tolist()
    net = Line.__new__(Line)
    net.tensors = {"body.w": np.ones(3), "head.b": np.zeros(2)}
    history = fl.federate(net, train, test, load, adapter=Dicts()).simulate(clients=3, backend="inline", progress=False)
    assert np.random.get_state()[1].tolist() == before
    assert net.tensors["body.w"].tolist() == [1.0] * 3
    assert history.losses_distributed


def test_data_are_a_function_a_list_or_a_divided_data_set():
    seen = []

    def look(model, data):
        seen.append(np.asarray(data["x"] if hasattr(data, "column_names") else data).ravel()[:3].tolist())
        return 1

    def lists(model, train, **options):
        fl.federate(Line, look, None, model, adapter=Dicts()).simulate(backend="inline", progress=False, **options)
        found, seen[:] = sorted(seen), []
        return found

    assert lists([[0.0] * 3, [1.0] * 3, [2.0] * 3], look) == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
    assert lists(lambda number: [float(number)] * 3, look, clients=2) == [[0.0] * 3, [1.0] * 3]
    assert lists(lambda context: [float(context.node_id)] * 3, look, clients=2) == [[0.0] * 3, [1.0] * 3]
    divided = FederatedDataset(dataset={"x": np.arange(6.0)}, partitioners={"train": 2}, shuffle=False)
    assert sorted(number for row in lists(divided, look) for number in row) == [*np.arange(6.0)]
    both = FederatedDataset(
        dataset={"train": {"x": np.arange(6.0)}, "test": {"x": np.arange(4.0)}}, partitioners={"train": 2, "test": 2}
    )
    sizes = []
    measure = lambda model, data: sizes.append(len(data)) or 1.0  # noqa: E731
    fl.federate(Line, look, measure, both, adapter=Dicts()).simulate(backend="inline", progress=False)
    assert sizes == [2, 2]
    for data, options, remedy in [
        (np.ones((3, 3)), {"clients": 2}, "every client would train on it; give a function of the client's number"),
        (load, {}, "needs clients=, how many there are"),
    ]:
        with pytest.raises((TypeError, ValueError), match=remedy):
            federated(data).simulate(**options)


def test_strategies_come_by_name_with_their_keywords_beside_them():
    by_name, parameters, _ = watched(federated(), strategy="fedavgm", server_momentum=0.5, fraction_fit=0.7)
    strategy = FedAvgM(server_momentum=0.5, fraction_fit=0.7)
    by_object, same, _ = watched(federated(), strategy=strategy)
    assert (by_object, same) == (by_name, parameters)
    assert strategy.initial_parameters is None  # it is the caller's, and may be used again
    adam, _, _ = watched(federated(), strategy="Fed-Adam", eta=0.1)  # which needs initial parameters
    assert adam != by_name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategy": "fedvag"}, r"did you mean 'fedavg'\? There are .*krum.*as an object"),
        ({"strategy": "fedprox"}, r"needs proximal_mu=: write strategy='fedprox', proximal_mu=…"),
        ({"fraction_ft": 0.5}, r"simulate\(\) has no keyword 'fraction_ft'; did you mean 'fraction_fit'"),
        ({"stratgy": "krum"}, "did you mean 'strategy'"),
        ({"bakend": "inline"}, "did you mean 'backend'"),
        ({"backend": "inlin"}, "did you mean 'inline'"),
        ({"num_clients": 3}, "here it is clients="),
        ({"rounds": "2"}, "write rounds=2, without quotes"),
        ({"clients": "3"}, "write clients=3, without quotes"),
        ({"strategy": FedAvg(), "fraction_fit": 0.5}, r"strategy= is an object: write FedAvg\(fraction_fit=…\)"),
        ({"strategy": FedAvg}, r"this is the class; write strategy=FedAvg\(\)"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_round(options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        federated().simulate(**{"clients": 3, **options})


def test_personal_tensors_stay_with_their_client():
    _, _, sent = watched(federated())
    _, parameters, seen = watched(federated(personal="head.*"))
    assert [len(one) for one in parameters] == [3]  # head.b is no part of the model
    sizes = lambda events: {event.bytes for event in events if isinstance(event, fl.events.TaskAnswered)} - {0}  # noqa: E731
    assert max(sizes(seen)) < min(sizes(sent))
    heads = {e.client: e.metrics["head"] for e in seen if isinstance(e, fl.events.TaskAnswered) and e.kind == "evaluate"}
    for client, head in heads.items():
        assert 4 * (5 + int(client)) <= head <= 4 * (6 + int(client))  # two rounds, and its own data's length in each


@pytest.mark.system
def test_personal_tensors_are_the_same_in_worker_processes():
    inline, parameters, _ = watched(federated(personal="head.*"))
    in_processes, same, _ = watched(federated(personal=["head.*"]), backend="processes", workers=2)
    assert (in_processes, same) == (inline, parameters)


@pytest.mark.parametrize(
    ("personal", "said"),
    [
        ("head", r"matches no tensor; did you mean 'head.\*'\? there are 'body.w', 'head.b'"),
        (["head.*", "tail.*"], r"personal='tail.\*' matches no tensor"),
        ("*", "matches all tensors, and nothing would be trained together"),
        ([3], r"write personal='head.\*'"),
    ],
)
def test_patterns_that_leave_nothing_are_said_before_the_first_round(personal, said):
    with pytest.raises((TypeError, ValueError), match=said):
        federated(personal=personal).simulate(clients=3)


def test_a_client_that_is_made_already_is_federated_as_it_is():
    client = fl.frameworks.ModelClient(Line, train, test, load, adapter=Dicts())
    by_client, parameters, _ = watched(fl.federate(client))
    assert (by_client, parameters) == watched(federated())[:2]
    assert [len(one) for one in watched(fl.federate(client, personal="head.*"))[1]] == [3]
    assert fl.federate(client, data=[np.ones((4, 3))] * 2).simulate(backend="inline", progress=False) != by_client
    with pytest.raises(TypeError, match="a model of dicts needs train="):
        fl.federate(Line, data=load, adapter=Dicts())


def test_who_needs_a_number_to_know_his_data_is_told_so():
    with pytest.raises(ValueError, match=r"this client has none: write join\(…, client_id='3'\)"):
        federated().join("127.0.0.1:1")
    with pytest.raises(TypeError, match="did you mean 'client_id'"):
        federated().join("127.0.0.1:1", clientid="3")
