"""What has been added up travels as a content: whatever an aggregator keeps comes back, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from umbel.aggregators import Aggregator, Wire, mean
from umbel.aggregators.accumulators import PLAIN, pack, unpack
from umbel.errors import WireError
from umbel.fold import PartialSum, plan
from umbel.optimizers import sgd
from umbel.params import Params, schema_of
from umbel.testing import check_aggregator
from umbel.wire import encode_header

FLOAT = np.dtype("float64")


def travel(written, about=None):
    schema, data = pack(written, about or {})
    return unpack(Params.from_bytes(bytearray(encode_header(schema) + b"".join(data))))


@pytest.mark.parametrize(
    "acc", [0.1, 3, None, np.arange(3.0), (np.arange(2), 2**70, None), {"sum": np.zeros((2, 2)), "weight": 0.3}, (), {}]
)
def test_what_is_made_of_arrays_and_numbers_comes_back(acc):
    (written,), _ = travel([PLAIN.write(acc)])
    again = PLAIN.read(FLOAT, *written)
    assert type(again) is type(acc)
    assert repr(again) == repr(acc)


class Pair(NamedTuple):
    total: float
    weight: float


@dataclass
class Kept:
    values: object = None


@pytest.mark.parametrize("acc", [Pair(1.0, 2.0), Kept(), {3: 1.0}, [1.0], (object(),)])
def test_what_would_come_back_as_something_else_is_refused_with_the_remedy(acc):
    with pytest.raises(TypeError, match=r"an accumulator has a \w+; wire=Wire\(write, read\) of the aggregator says how"):
        PLAIN.write(acc)


def counting(**wire):
    def add(acc, block, weight):
        acc.values = block * weight if acc.values is None else acc.values + block * weight
        return acc

    def merge(acc, later):
        return later if acc.values is None else acc if later.values is None else Kept(acc.values + later.values)

    return Aggregator(lambda dtype: Kept(), add, merge, lambda acc, dtype: acc.values.astype(dtype), **wire)


def test_an_aggregator_of_ones_own_says_how_it_travels_and_is_checked():
    assert not counting().travels
    wire = Wire(
        lambda acc: ({} if acc.values is None else {"values": acc.values}, {}),
        lambda dtype, arrays, rest: Kept(arrays.get("values")),
    )
    assert counting(wire=wire).travels
    assert mean().travels
    forgetful = mean().wire._replace(write=lambda acc: ({"values": acc.values}, {"weight": 1, "bound": 0}))
    with pytest.raises(AssertionError, match="a partial result that travelled is another"):
        check_aggregator(mean()._replace(wire=forgetful))
    with pytest.raises(AssertionError, match="a partial result cannot travel: an accumulator has a _Sum"):
        check_aggregator(mean()._replace(wire=PLAIN))


def test_integers_beyond_64_bits_come_back_in_full():
    block = np.array([2**62, -(2**62), 5])
    acc = mean().init(block.dtype)
    for _ in range(9):
        acc = mean().add(acc, block, 1000)
    (written,), _ = travel([mean().wire.write(acc)])
    again = mean().wire.read(block.dtype, *written)
    assert (again.values.tolist(), again.weight, again.bound) == (acc.values.tolist(), acc.weight, acc.bound)
    assert mean().finish(again, block.dtype).tolist() == block.tolist()


def test_a_model_of_many_tensors_has_a_short_header():
    arrays = [np.ones(3, "float16") for _ in range(1000)]
    total = PartialSum(mean(), plan(schema_of(arrays)))
    total.add(total.blocks_of(arrays), 2)
    schema, _ = total.stream()
    assert schema.names == ("values/F64", "about")


def test_a_sum_without_updates_travels():
    cut = plan(schema_of([np.ones(3, "float32")]))
    schema, data = PartialSum(mean(), cut).stream()
    again = PartialSum.read(mean(), cut, Params(schema, np.frombuffer(bytearray(b"".join(data)), np.uint8)))
    assert again.updates == 0
    again.add([np.full(3, 2, "float32")], 5)
    assert np.frombuffer(b"".join(again.blocks(None, sgd())), "float32").tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "content",
    [
        Params.of([np.zeros(3)]),
        Params.of({"about": np.frombuffer(b"no JSON", np.uint8)}),
        Params.of({"about": np.frombuffer(b"[{}, 5]", np.uint8)}),
        Params.of({"about": np.frombuffer(b'[{}, [[{"a": ["F64", 2]}, {}]]]', np.uint8), "a/F64": np.zeros(1)}),
        Params.of({"about": np.frombuffer(b'[{}, [[{"a": ["F64", 1]}, {}]]]', np.uint8), "a/F64": np.zeros(2)}),
        Params.of({"about": np.frombuffer(b"[{}, []]", np.uint8)}),
    ],
)
def test_what_is_no_sum_is_refused(content):
    with pytest.raises(WireError, match="this is no sum of updates"):
        PartialSum.read(mean(), plan(schema_of([np.ones(3, "float32")])), content)


def test_a_sum_for_another_model_is_refused():
    one, two = (plan(schema_of([np.ones(3, kind)] * n)) for kind, n in (("float16", 1), ("float16", 2)))
    total = PartialSum(mean(), one)
    total.add(total.blocks_of([np.ones(3, "float16")]), 1)
    schema, data = total.stream()
    with pytest.raises(WireError, match="this is no sum of updates to the model"):
        PartialSum.read(mean(), two, Params(schema, np.frombuffer(bytearray(b"".join(data)), np.uint8)))

