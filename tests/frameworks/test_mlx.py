"""MLX's modules as clients, on the CPU."""

import ml_dtypes
import numpy as np
import pytest

import umbel as fl
from umbel.frameworks.errors import ParametersMismatch

mlx_core = pytest.importorskip("mlx.core", reason="MLX is not installed: its adapter is not tested")
nn = pytest.importorskip("mlx.nn")
optimizers = pytest.importorskip("mlx.optimizers")

from umbel.frameworks.mlx import adapter, client, load, parameters_of, statistics_of  # noqa: E402  # after the skip


class Net(nn.Module):
    """Modules in a list and in a dict, statistics, and an array of its own."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 6), nn.BatchNorm(6)]
        self.heads = {"left": nn.Linear(6, 2)}
        self.scale = mlx_core.ones(())

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["left"](x) * self.scale


NAMES = {
    "layers.0.weight",
    "layers.0.bias",
    "layers.1.weight",
    "layers.1.bias",
    "layers.1.running_mean",
    "layers.1.running_var",
    "heads.left.weight",
    "heads.left.bias",
    "scale",
}
X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("uint32")


def loss_of(net, x, y):
    return nn.losses.cross_entropy(net(x), y, reduction="mean")


def train(net, data, lr=0.1):
    net.train()
    optimizer = optimizers.SGD(learning_rate=lr)
    _, gradients = nn.value_and_grad(net, loss_of)(net, *data)
    optimizer.update(net, gradients)
    mlx_core.eval(net.parameters())


def judge(net, data):
    net.eval()
    x, y = data
    return loss_of(net, x, y), {"accuracy": (net(x).argmax(axis=1) == y).astype(mlx_core.float32).mean()}


def rows(number):
    return mlx_core.array(X[number::3]), mlx_core.array(Y[number::3])


def simulate(model, **options):
    return fl.simulation.start_simulation(
        client_fn=client(model, train, judge, data=rows),
        num_clients=3,
        config=fl.server.ServerConfig(num_rounds=3),
        progress=False,
        **options,
    )


def test_parameters_are_named_after_their_places_and_come_back():
    net, other = Net(), Net()
    arrays = parameters_of(net)
    assert set(arrays) == NAMES
    assert statistics_of(net) == ["layers.1.running_mean", "layers.1.running_var"]
    load(other, {name: arrays[name] for name in reversed(arrays)})
    assert all(np.array_equal(array, arrays[name]) for name, array in parameters_of(other).items())
    load(other, [array * 0 for array in arrays.values()])
    assert not any(array.any() for array in parameters_of(other).values())


def test_bfloat16_and_half_stay_what_they_are():
    for dtype, wanted in ((mlx_core.bfloat16, ml_dtypes.bfloat16), (mlx_core.float16, np.float16)):
        net = Net()
        net.set_dtype(dtype)
        arrays = parameters_of(net)
        assert {array.dtype for array in arrays.values()} == {np.dtype(wanted)}
        load(net, {name: array.astype("float32") for name, array in arrays.items()})
        assert parameters_of(net)["scale"].dtype == wanted
        assert all(np.array_equal(parameters_of(net)[name], array) for name, array in arrays.items())


def test_parameters_of_another_module_change_nothing():
    net = Net()
    before = parameters_of(net)
    with pytest.raises(ParametersMismatch, match="'scale' is missing"):
        load(net, {name: array * 0 for name, array in before.items() if name != "scale"})
    assert all(np.array_equal(array, before[name]) for name, array in parameters_of(net).items())
    with pytest.raises(TypeError, match=r"give an mlx\.nn\.Module"):
        client([1], train)


def test_clients_train_it_and_see_nothing_of_each_other():
    """A client that freezes a layer, and leaves the net in evaluation mode, is the only one that does."""
    history = simulate(Net, backend="inline")
    assert history.failures == []
    assert history.losses_distributed[-1][1] < history.losses_distributed[0][1]

    net = Net()
    memory = adapter.remember(net)
    net.heads["left"].freeze()
    net.eval()
    adapter.renew(net, memory, seed=None)
    assert net.training
    assert "heads" in net.trainable_parameters()
    assert "left" in net.trainable_parameters()["heads"]
    assert "running_mean" not in net.trainable_parameters()["layers"][1]


@pytest.mark.frameworks
def test_processes_make_the_same_bits():
    assert simulate(Net, backend="inline") == simulate(Net, backend="processes", workers=2)
