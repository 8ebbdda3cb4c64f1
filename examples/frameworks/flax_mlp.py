"""JAX with flax.linen and optax: the model is what `init` returns, and `train` returns the new one."""

import flax.linen as nn
import jax
import optax

import umbel as fl
from digits import arrays
from umbel.frameworks import jax as umbel_jax

net = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(10)])
optimizer = optax.adam(0.01)


def loss_of(variables, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(net.apply(variables, images.reshape(-1, 64)), labels).mean()


@jax.jit
def step(variables, state, images, labels):
    loss, gradients = jax.value_and_grad(loss_of)(variables, images, labels)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(variables, updates), state, loss


def train(variables, data, epochs=20):
    state = optimizer.init(variables)
    for _ in range(epochs):
        variables, state, loss = step(variables, state, *data)
    return variables, {"loss": loss}


def make_variables():
    return net.init(jax.random.key(0), arrays(0)[0].reshape(-1, 64))


client = umbel_jax.client(make_variables, train, lambda variables, data: loss_of(variables, *data), arrays)

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
