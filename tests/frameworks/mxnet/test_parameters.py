"""A net's parameters as a list of arrays, there and back."""

import numpy as np
import pytest

from umbel.frameworks.errors import ParametersMismatch, ParametersNotReady
from umbel.frameworks.mxnet import (
    get_named_parameters,
    get_parameters,
    mx,
    set_named_parameters,
    set_parameters,
)

nn = mx.gluon.nn

SHAPES = {
    "0.weight": (4, 3),
    "0.bias": (4,),
    "1.gamma": (4,),
    "1.beta": (4,),
    "1.running_mean": (4,),
    "1.running_var": (4,),
    "2.weight": (2, 4),
    "2.bias": (2,),
}


def network():
    """Dense, BatchNorm, Dense; initialised, but no data has told the layers their input sizes."""
    net = nn.HybridSequential()
    net.add(nn.Dense(4), nn.BatchNorm(), nn.Dense(2))
    net.initialize()
    return net


def ready():
    net = network()
    net(mx.nd.random.uniform(shape=(5, 3)))
    return net


def trained():
    net = ready()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    for _ in range(3):
        with mx.autograd.record():
            loss = net(mx.nd.random.uniform(shape=(5, 3))).square().mean()
        loss.backward()
        trainer.step(5)
    return net


def test_every_parameter_travels_with_biases_and_running_statistics():
    assert {name: array.shape for name, array in get_named_parameters(ready()).items()} == SHAPES


def test_names_do_not_depend_on_what_the_process_made_before():
    first, second = ready(), ready()
    assert list(first.collect_params()) != list(second.collect_params())
    assert list(get_named_parameters(first)) == list(get_named_parameters(second))


def test_another_net_computes_the_same_with_the_parameters_of_a_trained_one():
    source, target, data = trained(), ready(), mx.nd.random.uniform(shape=(7, 3))
    set_parameters(target, get_parameters(source))
    np.testing.assert_array_equal(target(data).asnumpy(), source(data).asnumpy())


def test_a_hybridized_net_computes_with_what_was_set():
    source, target, data = trained(), ready(), mx.nd.random.uniform(shape=(7, 3))
    target.hybridize()
    target(data)
    set_parameters(target, get_parameters(source))
    np.testing.assert_allclose(target(data).asnumpy(), source(data).asnumpy(), rtol=1e-5)


def test_training_goes_on_from_what_was_set_with_the_same_trainer():
    net = nn.Dense(1, in_units=1, use_bias=False)
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0})
    for start in (10.0, 20.0):
        set_parameters(net, [np.array([[start]])])
        with mx.autograd.record():
            loss = net(mx.nd.ones((1, 1)))
        loss.backward()
        trainer.step(1)
        assert get_parameters(net)[0].item() == start - 1


def test_arrays_are_owned_writable_copies():
    net = ready()
    arrays = get_parameters(net)
    assert all(a.flags.owndata and a.flags.writeable and a.dtype == np.float32 for a in arrays)
    arrays[0][...] = 7
    assert not np.any(get_parameters(net)[0] == 7)


def test_the_net_does_not_keep_the_arrays_it_was_given():
    net, arrays = ready(), [np.ones(shape, np.float32) for shape in SHAPES.values()]
    set_parameters(net, arrays)
    arrays[0][...] = 7
    assert np.all(get_parameters(net)[0] == 1)


def test_a_net_keeps_its_dtype():
    net = nn.Dense(2, in_units=3)
    net.cast("float16")
    net.initialize()
    set_parameters(net, [np.ones((2, 3), np.float64), np.ones(2, np.int64)])
    assert [array.dtype.name for array in get_parameters(net)] == ["float16", "float16"]


def test_a_shared_parameter_travels_once():
    first = nn.Dense(3, in_units=3)
    net = nn.Sequential()
    net.add(first, nn.Dense(3, in_units=3, params=first.params))
    net.initialize()
    assert list(get_named_parameters(net)) == ["0.weight", "0.bias"]


def test_a_net_on_several_devices_is_set_on_each():
    net = nn.Dense(1, in_units=2)
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    set_parameters(net, [np.array([[1.0, 2.0]]), np.array([3.0])])
    assert [data.asnumpy().tolist() for data in net.weight.list_data()] == [[[1.0, 2.0]]] * 2
    assert get_named_parameters(net)["bias"].tolist() == [3.0]


def test_a_client_can_keep_a_layer_to_itself():
    net = ready()
    kept = get_named_parameters(net)
    shared = {name: array + 1 for name, array in kept.items() if not name.startswith("2.")}
    set_named_parameters(net, shared)
    now = get_named_parameters(net)
    np.testing.assert_array_equal(now["0.bias"], kept["0.bias"] + 1)
    np.testing.assert_array_equal(now["2.weight"], kept["2.weight"])


def test_a_wrong_shape_is_named_and_changes_nothing():
    net = ready()
    before, arrays = get_parameters(net), [np.ones(shape) for shape in SHAPES.values()]
    arrays[6] = np.ones((1, 4))  # would broadcast
    with pytest.raises(ParametersMismatch, match=r"'2.weight' has shape \(2, 4\), the array for it has shape \(1, 4\)"):
        set_parameters(net, arrays)
    for now, then in zip(get_parameters(net), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_too_few_arrays_say_which_parameter_has_none():
    arrays = get_parameters(ready())
    with pytest.raises(ParametersMismatch, match=r"got 7 arrays, the net has 8 parameters; missing '2.bias', shape \(2,\)"):
        set_parameters(ready(), arrays[:-1])


def test_weights_alone_say_where_the_first_bias_belongs():
    weights = [array for name, array in get_named_parameters(ready()).items() if name.endswith("weight")]
    with pytest.raises(ParametersMismatch, match=r"array 1 has shape \(2, 4\) where '0.bias', shape \(4,\), belongs"):
        set_parameters(ready(), weights)


def test_too_many_arrays_are_refused():
    with pytest.raises(ParametersMismatch, match="got 9 arrays, the net has 8 parameters"):
        set_parameters(ready(), [*get_parameters(ready()), np.zeros(1)])


def test_an_unknown_name_is_refused():
    with pytest.raises(ParametersMismatch, match=r"no parameter '3.weight'; it has 0.weight, 0.bias"):
        set_named_parameters(ready(), {"3.weight": np.zeros(1)})


@pytest.mark.parametrize("use", [get_parameters, lambda net: set_parameters(net, [])])
def test_before_the_first_data_the_remedy_is_to_pass_a_batch(use):
    with pytest.raises(ParametersNotReady, match=r"'0.weight' has no values yet: in its shape \(4, 0\).* net\(batch\)"):
        use(network())


def test_before_initialisation_the_remedy_is_to_initialise():
    with pytest.raises(ParametersNotReady, match=r"'weight', shape \(2, 3\), was never initialised. Call net.initialize"):
        get_parameters(nn.Dense(2, in_units=3))


def test_row_sparse_parameters_are_refused():
    net = mx.gluon.contrib.nn.SparseEmbedding(5, 2)
    net.initialize()
    with pytest.raises(ParametersMismatch, match="'weight' is stored as row_sparse; only dense parameters travel"):
        get_parameters(net)
