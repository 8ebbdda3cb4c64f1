"""JAX with flax: the model is what `init` returns, and `train` returns the new one."""

import flax.linen as nn
import jax
import optax
from sklearn.datasets import load_digits

import umbel as fl

net = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(10)])


def test(model, data):
    return optax.softmax_cross_entropy_with_integer_labels(net.apply(model, data[0]), data[1]).mean()


def train(model, data, lr=0.1):
    for _ in range(10):
        model = jax.tree.map(lambda value, slope: value - lr * slope, model, jax.grad(test)(model, data))
    return model


x, y = load_digits(return_X_y=True)
shares = [(x[n::10] / 16, y[n::10]) for n in range(10)]
history = fl.federate(lambda: net.init(jax.random.key(0), x[:1]), train, test, data=shares).simulate(rounds=5)
