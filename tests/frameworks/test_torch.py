"""PyTorch's modules as people have them: what travels, under which names, and what a client never sees of another."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
umbel_torch = pytest.importorskip("umbel.frameworks.torch")

from torch import nn  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.context import Context  # noqa: E402
from umbel.errors import WireError  # noqa: E402
from umbel.fold.statistics import statistics_of  # noqa: E402
from umbel.frameworks import adapter_for  # noqa: E402
from umbel.frameworks.errors import ParametersMismatch, ParametersNotReady  # noqa: E402
from umbel.params import as_arrays, schema_of  # noqa: E402

# What torch says about itself while it imports its compiler is not ours.
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")]


def net():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def equal(some, others):
    return all(some[name].tobytes() == others[name].tobytes() for name in some) and [*some] == [*others]


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda module: torch.compile(nn.DataParallel(module))])
def test_what_wraps_a_module_is_not_in_its_names(wrap):
    plain = net()
    wrapped = wrap(copy.deepcopy(plain))
    assert equal(umbel_torch.parameters_of(wrapped), umbel_torch.parameters_of(plain))
    other = umbel_torch.parameters_of(net())
    assert equal(umbel_torch.parameters_of(umbel_torch.load(wrapped, other)), other)


def test_a_part_that_is_compiled_is_not_in_the_names():
    parts = net()
    parts[0] = torch.compile(parts[0])
    assert [*umbel_torch.parameters_of(parts)][:2] == ["0.weight", "0.bias"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_dtypes_come_back_to_the_bit(dtype):
    one, other = net().to(dtype), net().to(dtype)
    umbel_torch.load(other, umbel_torch.parameters_of(one))
    assert other[0].weight.dtype == dtype
    assert equal(umbel_torch.parameters_of(one), umbel_torch.parameters_of(other))


def test_a_list_goes_by_place_and_a_mapping_by_name():
    one, other = umbel_torch.parameters_of(net()), net()
    for parameters in ([*one.values()], dict(reversed(one.items())), {name: torch.tensor(one[name]) for name in one}):
        umbel_torch.load(other, parameters)
        assert equal(umbel_torch.parameters_of(other), one)


def test_nothing_is_written_where_names_or_shapes_are_others():
    mine = net()
    before = umbel_torch.parameters_of(mine)
    with pytest.raises(ParametersMismatch, match=r"the model has no 'fc', and '0.weight' is missing"):
        umbel_torch.load(mine, {"fc" if name == "0.weight" else name: value for name, value in before.items()})
    with pytest.raises(ParametersMismatch, match=r"'2.bias' has shape \(3,\), in the model it has \(2,\)"):
        umbel_torch.load(mine, {**before, "0.weight": before["0.weight"] + 1, "2.bias": np.zeros(3)})
    assert equal(umbel_torch.parameters_of(mine), before)


def test_a_tensor_that_cannot_travel_is_named():
    net = nn.Module()
    net.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(WireError, match="tensor 'phase' is of dtype complex64, which cannot travel"):
        umbel_torch.parameters_of(net)


def test_tied_weights_travel_once_and_stay_tied():
    tied = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    tied["head"].weight = tied["embedding"].weight
    assert [*umbel_torch.parameters_of(tied)] == ["embedding.weight"]
    umbel_torch.load(tied, [np.ones((5, 3))])
    assert tied["head"].weight is tied["embedding"].weight
    assert tied["head"].weight.sum() == 15


def test_statistics_are_told_from_weights_also_where_a_module_has_its_own():
    module = net()
    module.register_buffer("average", torch.zeros(2))
    module[0].weight.requires_grad_(False)  # frozen, and a weight
    known = umbel_torch.statistics_of(module)
    assert known == ["average", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    schema = schema_of(as_arrays(umbel_torch.parameters_of(net())))
    assert {schema.names[place] for place in statistics_of(schema)} == {*known[1:]}  # strategies know these by name


def test_a_lazy_module_is_refused_with_the_remedy_before_anything_starts():
    with pytest.raises(ParametersNotReady, match=r"'0.weight' has no shape yet.*run the model once on a batch"):
        umbel_torch.client(nn.Sequential(nn.LazyLinear(2)), lambda net, data: None, data=[1])
    with pytest.raises(ParametersNotReady, match=r"'0.weight' has no shape yet"):
        fl.federate(lambda: nn.Sequential(nn.LazyLinear(2)), lambda net, data: 1, data=[1, 2]).simulate(progress=False)
    with pytest.raises(TypeError, match=r"model= is a dict; give an nn.Module, or a class or function that makes one"):
        umbel_torch.client({}, lambda net, data: None, data=[1])


class Noted(nn.Module):
    """Has a buffer that does not travel."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("seen", torch.zeros(()), persistent=False)


def test_a_client_sees_nothing_of_the_one_before():
    found = []

    def train(net, data):
        found.append((net.training, net.layer.weight.requires_grad, net.layer.weight.grad, net.seen.item()))
        net.layer(torch.ones(1, 2)).sum().backward()
        net.seen += 1
        net.eval()
        net.layer.weight.requires_grad_(False)

    client = umbel_torch.client(Noted, train, data=[1])
    for name in "01":
        member = client(Context(name, {"partition-id": int(name)}, seed=0, round=1))
        member.fit([np.ones((2, 2)), np.ones(2)], {})
    assert found == [(True, True, None, 0)] * 2


def test_a_compiled_module_is_compiled_once_for_all_clients():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    def train(net, data):
        net(torch.ones(4, 4)).sum().backward()

    client = umbel_torch.client(lambda: torch.compile(net(), backend=backend), train, data=[1])
    first = umbel_torch.parameters_of(net())
    for name in "012":
        client(Context(name, {"partition-id": int(name)}, seed=0, round=1)).fit([*first.values()], {})
    assert len(compiled) == 1


def test_a_model_of_another_form_that_train_returns_is_said():
    client = umbel_torch.client(net, lambda model, data: nn.Linear(4, 3), data=[1])
    with pytest.raises(ParametersMismatch, match=r"the model has no 'weight', 'bias', and '0.weight'"):
        client.fit([*umbel_torch.parameters_of(net()).values()], {})


def test_the_adapter_is_found_by_where_the_class_comes_from():
    assert adapter_for(net()).name == adapter_for(Noted).name == "torch"
