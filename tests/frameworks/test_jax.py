"""JAX's models: any pytree, of which arrays travel; a model is a value, and nnx is the exception."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
umbel_jax = pytest.importorskip("umbel.frameworks.jax")

from umbel.context import Context  # noqa: E402
from umbel.frameworks import adapter_for  # noqa: E402
from umbel.frameworks.errors import ParametersNotReady  # noqa: E402

pytestmark = pytest.mark.frameworks
TREE = {
    "layers": [{"w": jax.numpy.ones((2, 3), "bfloat16"), "act": max}],
    "rate": 0.5,
    "key": jax.random.key(0),
    "n": jax.numpy.int32(3),
}


def test_arrays_travel_and_everything_else_stays():
    arrays = umbel_jax.parameters_of(TREE)
    assert {name: array.dtype.name for name, array in arrays.items()} == {"layers.0.w": "bfloat16", "n": "int32"}
    assert umbel_jax.statistics_of(TREE) == ["n"]
    loaded = umbel_jax.load(TREE, {"n": 7, "layers.0.w": np.zeros((2, 3))})
    assert (loaded["rate"], loaded["layers"][0]["act"], loaded["key"]) == (0.5, max, TREE["key"])
    assert (int(loaded["n"]), loaded["layers"][0]["w"].dtype, int(TREE["n"])) == (7, "bfloat16", 3)


@pytest.mark.parametrize(("returned", "said"), [(None, "nothing"), ({"loss": 1.0}, "a dict")])
def test_a_train_that_returns_no_model_is_told_to(returned, said):
    client = umbel_jax.client({"w": jax.numpy.ones(2)}, lambda model, data: returned, data=[1])
    with pytest.raises(TypeError, match=rf"train\(\) returned {said}; .* return the new model, or \(model, metrics\)"):
        client.fit([np.ones(2)], {})


def test_a_model_comes_with_metrics_and_a_number_and_a_dict_of_its_form_is_the_model():
    model = {"w": jax.numpy.ones(2)}

    def train(model, data, key):
        return {"w": model["w"] + 1}, 9, {"loss": model["w"].sum()}

    arrays, count, metrics = umbel_jax.client(model, train, data=[1])(Context("0", seed=1, round=1)).fit([np.ones(2)], {})
    assert (arrays["w"].tolist(), count, metrics) == ([2.0, 2.0], 9, {"loss": 2.0})


def test_what_jit_has_compiled_serves_all_clients():
    traced = []

    @jax.jit
    def step(model):
        traced.append(1)
        return jax.tree.map(lambda array: array * 2, model)

    client = umbel_jax.client(lambda: {"w": jax.numpy.ones(2)}, lambda model, data: step(model), data=[1])
    for name in "012":
        client(Context(name, {"partition-id": int(name)}, seed=0, round=1)).fit([np.ones(2, "float32")], {})
    assert len(traced) == 1


def test_variables_of_flax_linen():
    linen = pytest.importorskip("flax.linen")
    net = linen.Sequential([linen.Dense(3), linen.BatchNorm(use_running_average=False)])
    variables = net.init(jax.random.key(0), np.ones((1, 2), "float32"))
    assert umbel_jax.statistics_of(variables) == ["batch_stats.layers_1.mean", "batch_stats.layers_1.var"]
    with pytest.raises(ParametersNotReady, match=r"has no parameters of its own; give its variables.*\.init\("):
        umbel_jax.client(net, print, data=[1])


def test_modules_of_equinox_keep_their_functions_and_know_their_state():
    equinox = pytest.importorskip("equinox")
    mlp = equinox.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))
    assert [*umbel_jax.parameters_of(mlp)] == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    assert umbel_jax.load(mlp, umbel_jax.parameters_of(mlp)).activation is mlp.activation
    pair = equinox.nn.make_with_state(equinox.nn.BatchNorm)(3, "batch", mode="batch")
    assert {*umbel_jax.parameters_of(pair)} - {*umbel_jax.statistics_of(pair)} == {"0.weight", "0.bias"}
    assert adapter_for(mlp).name == adapter_for(type(mlp)).name == adapter_for(TREE).name == "jax"


def test_modules_of_nnx_are_trained_in_place_and_are_as_new_for_each_client():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.layer, self.norm = nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

    drawn = []

    def train(net, data):
        drawn.append(net.drop(jax.numpy.ones(64)).tolist())
        net.layer.kernel[...] = net.layer.kernel[...] + 1
        net.eval()

    client = umbel_jax.client(Net, train, data=[1])
    first = umbel_jax.parameters_of(Net())
    assert umbel_jax.statistics_of(Net()) == ["norm.mean", "norm.var"]
    for name in "010":
        arrays, *_ = client(Context(name, {"partition-id": int(name)}, seed=0, round=1)).fit([*first.values()], {})
        assert np.allclose(arrays["layer.kernel"], first["layer.kernel"] + 1)
    assert drawn[0] == drawn[2] != drawn[1]
