"""A net of MXNet's as a client, with one's own train and test."""

import numpy as np
import pytest

import umbel as fl
from umbel.frameworks import adapter_for
from umbel.frameworks.errors import ParametersMismatch
from umbel.frameworks.mxnet import client, load, mx, parameters_of, statistics_of

X = np.random.RandomState(0).standard_normal((60, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("float32")
LOSS = mx.gluon.loss.SoftmaxCrossEntropyLoss()


def make_net():
    net = mx.gluon.nn.Sequential()
    net.add(mx.gluon.nn.Dense(6, in_units=4), mx.gluon.nn.BatchNorm(in_channels=6), mx.gluon.nn.Dense(2, in_units=6))
    net.initialize(mx.init.Xavier())
    return net


def train(net, data, lr=0.1):
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})
    x, y = data
    with mx.autograd.record():
        loss = LOSS(net(x), y)
    loss.backward()
    trainer.step(len(x))


def judge(net, data):
    x, y = data
    scores = net(x)
    return float(LOSS(scores, y).mean().asscalar()), {"accuracy": float((scores.argmax(axis=1) == y).mean().asscalar())}


def rows(number):
    return mx.nd.array(X[number::3]), mx.nd.array(Y[number::3])


def test_clients_train_it_in_a_simulation():
    history = fl.simulation.start_simulation(
        client_fn=client(make_net, train, judge, data=rows),
        num_clients=3,
        config=fl.server.ServerConfig(num_rounds=4),
        backend="inline",
        progress=False,
    )
    assert history.failures == []
    assert history.losses_distributed[-1][1] < history.losses_distributed[0][1]
    net = load(make_net(), history.parameters)
    assert parameters_of(net)["0.weight"].tolist() == dict(history.parameters)["0.weight"].tolist()


def test_the_adapter_is_found_and_knows_statistics():
    net = make_net()
    assert adapter_for(net).name == "mxnet"
    assert statistics_of(net) == ["1.running_mean", "1.running_var"]


def test_parameters_of_another_net_change_nothing():
    net = make_net()
    before = parameters_of(net)
    with pytest.raises(ParametersMismatch, match="shape"):
        load(net, {name: np.zeros(7) for name in before})
    assert all(np.array_equal(array, before[name]) for name, array in parameters_of(net).items())
