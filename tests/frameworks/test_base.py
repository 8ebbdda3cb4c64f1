"""The client that all adapters share, with numpy as the framework: a model is an object with a dict of arrays."""

import copy
import random

import numpy as np
import pytest

import umbel as fl
from umbel.frameworks.adapter import Adapter, adapter_for
from umbel.frameworks.base import ModelClient
from umbel.frameworks.data import count_examples
from umbel.frameworks.errors import ParametersMismatch


class Line:
    """y = wx + b. `trained` is what no tensor has, and no client is to see of another."""

    made = 0

    def __init__(self):
        type(self).made += 1
        self.tensors = {"w": np.full(2, random.random()), "b": np.zeros(())}
        self.trained = 0


class Numpy(Adapter[Line]):
    name = "numpy"

    def shapes_of(self, model):
        return {name: array.shape for name, array in model.tensors.items()}

    def arrays_of(self, model):
        return copy.deepcopy(model.tensors)

    def place(self, model, arrays):
        model.tensors = {name: array.copy() for name, array in arrays.items()}
        return model

    def remember(self, model):
        return model.trained

    def renew(self, model, memory, seed):
        model.trained = memory


def simulate(client, rounds=2, **options):
    server = {"num_clients": 3, "backend": "inline", "config": fl.server.ServerConfig(num_rounds=rounds), **options}
    return fl.simulation.start_simulation(client_fn=client, **server)


FOUR = np.zeros(4)


def client(model, train, test=None, data=FOUR):
    return ModelClient(model, train, test, data, adapter=Numpy())


def test_arguments_come_by_name_from_the_config_and_the_task():
    seen = []

    def train(line, data, lr, epochs=7, *, round, number, context, config, parameters):
        seen.append((data, lr, epochs, round, number, context.node_id, config["lr"], len(parameters)))

    strategy = fl.server.strategy.FedAvg(on_fit_config_fn=lambda round: {"lr": round / 10})
    simulate(client(Line, train, data=lambda number: [number] * 4), strategy=strategy)
    assert sorted(seen) == [([n] * 4, r / 10, 7, r, n, str(n), r / 10, 2) for n in range(3) for r in (1, 2)]


def test_an_argument_that_nothing_gives_is_named_before_anything_trains(caplog):
    def train(line, data, momentum):
        raise AssertionError("it is not called")

    simulate(client(Line, train))
    assert "train() has an argument 'momentum' that nothing gives; there are config, context, number, par" in caplog.text


def test_a_model_is_made_once_and_is_as_new_for_each_client():
    Line.made, found = 0, []

    def train(line, data):
        found.append(line.trained)
        line.trained += 1

    simulate(client(Line, train))
    assert (Line.made, found) == (1, [0] * 6)


def test_a_simulation_leaves_the_model_that_it_is_given_as_it_is():
    def train(line, data):
        line.tensors["w"] += 1

    line = Line()
    before = line.tensors["w"].tolist()
    simulate(client(line, train))
    assert line.tensors["w"].tolist() == before


def test_what_is_drawn_while_data_are_made_is_the_same_in_each_round_and_moves_no_draw_of_training():
    halves, draws = {}, {}

    def load(context):
        return random.sample(range(100), 10)

    def train(line, data, round, number):
        halves.setdefault(number, []).append(data)
        draws[round, number] = random.random()

    simulate(client(Line, train, data=load))
    with_data = dict(draws)
    assert all(first == second for first, second in halves.values())
    assert halves[0] != halves[1]
    simulate(client(Line, train, data=list(range(10))))
    assert draws == with_data
    assert len({*draws.values()}) == 6


def test_train_and_test_get_their_own_half_of_a_dict():
    got = []
    data = {"train": [1, 2, 3], "test": [4]}
    simulate(client(Line, lambda line, data: got.append(data), lambda line, data: got.append(data) or 1.0, data), rounds=1)
    assert got == [[1, 2, 3]] * 3 + [[4]] * 3


def test_without_test_no_loss_is_reported():
    assert simulate(client(Line, lambda line, data: None)).losses_distributed == []


@pytest.mark.parametrize(
    ("returned", "understood"),
    [
        (None, (4, {})),
        (9, (9, {})),
        ({"loss": np.ones(1)}, (4, {"loss": 1.0})),
        ((9, {"f1": np.float32(0.5)}), (9, {"f1": 0.5})),
        (0.25, (4, {"loss": 0.25})),
    ],
)
def test_whatever_train_returns_becomes_a_number_of_examples_and_metrics(returned, understood):
    made = client(Line, lambda line, data: returned)
    assert made.fit([np.zeros(2), np.zeros(())], {})[1:] == understood


@pytest.mark.parametrize(
    ("train", "data", "remedy"),
    [
        (lambda line, data: "done", [1], r"train\(\) returned a str; return nothing, the model, a number of examples"),
        (lambda line, data: (1, "done"), [1], r"train\(\) returned \(int, str\)"),
        (lambda line, data: None, iter([1]), r"told from a list_iterator; return it from train: \(num_ex"),
        (lambda line: None, None, "cannot be told without data="),
    ],
)
def test_what_train_must_not_return_is_said_with_the_remedy(train, data, remedy):
    with pytest.raises(TypeError, match=remedy):
        client(Line, train, data=data).fit([np.zeros(2), np.zeros(())], {})


def test_functions_that_cannot_be_called_are_refused_before_anything_starts():
    with pytest.raises(TypeError, match=r"train= is a int; give a function, such as def train\(model, data\)"):
        client(Line, 3)
    with pytest.raises(TypeError, match=r"takes the model only, and data= was given; write def train\(line, data\)"):
        client(Line, lambda line: None)
    with pytest.raises(TypeError, match=r"int comes from no framework that umbel.frameworks knows: jax, keras"):
        adapter_for(3)


def test_parameters_that_do_not_fit_are_named():
    made = client(Line, lambda line, data: None)
    with pytest.raises(ParametersMismatch, match=r"'w' has shape \(3,\), in the model it has \(2,\)"):
        made.fit([np.zeros(3), np.zeros(())], {})
    with pytest.raises(ParametersMismatch, match="1 arrays came, the model has 2: 'w', 'b'"):
        made.fit([np.zeros(2)], {})


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (np.zeros((5, 3)), 5),
        ((np.zeros((5, 3)), np.zeros(5)), 5),
        ([np.zeros((5, 3)), np.zeros(5)], 5),
        ((["a", "b"], [0, 1]), 2),
        ({"x": np.zeros((5, 3)), "y": [0] * 5}, 5),
        ([("text", 0)] * 6, 6),
        ([(np.zeros(3), 0)] * 6, 6),
        ([{"text": "a", "label": 0}] * 6, 6),
        (range(6), 6),
        ([(np.zeros((5, 3)), np.zeros(5))] * 6, None),  # batches: not 6
        (({"text": "a"}, 0), None),
        (np.zeros(()), None),
        (iter([1]), None),
        ("text", None),
    ],
)
def test_examples_are_counted_where_that_can_be_told(data, count):
    assert count_examples(data) == count
