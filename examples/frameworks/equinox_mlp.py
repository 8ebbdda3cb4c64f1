"""JAX with Equinox: a module is a pytree; its activation functions stay, its arrays travel."""

import equinox as eqx
import jax
import optax

import umbel as fl
from digits import arrays
from umbel.frameworks import jax as umbel_jax


@eqx.filter_jit
def loss_of(model, images, labels):
    scores = jax.vmap(model)(images.reshape(-1, 64))
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


@eqx.filter_jit
def step(model, images, labels):
    gradients = eqx.filter_grad(loss_of)(model, images, labels)
    return eqx.apply_updates(model, jax.tree.map(lambda gradient: -0.5 * gradient, gradients))


def train(model, data, key):
    for part in jax.random.permutation(key, len(data[1]))[:160].reshape(10, 16):
        model = step(model, data[0][part], data[1][part])
    return model


client = umbel_jax.client(eqx.nn.MLP(64, 10, 32, 1, key=jax.random.key(0)), train, lambda m, d: loss_of(m, *d), arrays)

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
