"""Adding up whole updates, in pieces that merge, gives the bits of the pass over files, whatever their dtypes."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.aggregators import Aggregator, chunk_size, mean
from umbel.errors import StrategyError, WireError
from umbel.fold import Adding, Contribution, PartialSum, blocks, combine, in_memory, plan, stepped_schema
from umbel.optimizers import sgd
from umbel.params import Params, schema_of
from umbel.wire import encode_header

DTYPES = ["float32", "float64", "float16", ml_dtypes.bfloat16, "int64", "int32", "uint8", "bool"]


def over_files(model, updates, weights, optimizer):
    base = Params.of(model)
    kept = [Params.of(update) for update in updates]
    schema = stepped_schema(base.schema, [params.schema for params in kept])
    contributions = [
        Contribution(i, params.schema, in_memory(params), weight)
        for i, (params, weight) in enumerate(zip(kept, weights, strict=True))
    ]
    blocks = combine(
        schema,
        (base.schema, in_memory(base)),
        contributions,
        aggregator=mean(),
        optimizer=optimizer,
        chunk=chunk_size(len(updates)),
    )
    return schema, b"".join(bytes(block) for block in blocks)


def in_pieces(model, updates, weights, optimizer):
    base = Params.of(model)
    cut, chunk = plan(base.schema), chunk_size(len(updates))
    total = PartialSum(mean(), cut)
    for begin in range(0, len(updates), chunk):
        part = PartialSum(mean(), cut)
        for update, weight in zip(updates[begin : begin + chunk], weights[begin : begin + chunk], strict=True):
            part.add(part.blocks_of(update), weight)
        schema, data = part.stream()
        content = bytearray(encode_header(schema) + b"".join(data))  # as it comes from a worker
        total.merge(PartialSum.read(mean(), cut, Params.from_bytes(content)))
    return total.schema(), b"".join(bytes(block) for block in total.blocks(in_memory(base), optimizer))


shapes = st.lists(st.sampled_from([(), (3,), (2, 3), (0, 4), (7,)]), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.data(), shapes, st.integers(1, 70), st.sampled_from([1.0, 0.5]), st.integers(0, 2**32 - 1))
def test_pieces_and_files_give_the_same_bits(data, shapes, cohort, rate, seed):
    rng = np.random.default_rng(seed)
    types = [data.draw(st.sampled_from(DTYPES)) for _ in shapes]
    strays = [data.draw(st.sampled_from([None, None, "float64", "float32", "int16"])) for _ in shapes]

    def arrays(stray):
        values = [rng.normal(size=shape) * 50 for shape in shapes]
        kinds = [other if stray and other and kind != "bool" else kind for kind, other in zip(types, strays, strict=True)]
        return [(abs(v) if kind == "uint8" else v).astype(kind) for v, kind in zip(values, kinds, strict=True)]

    always = data.draw(st.booleans())  # integers that everybody answers with floats become float64
    model = arrays(False)
    updates = [arrays(always or i % 2 == 1) for i in range(cohort)]
    weights = [int(w) for w in rng.integers(1, 1000, cohort)]
    (schema, data_bytes), (other, other_bytes) = (how(model, updates, weights, sgd(rate)) for how in (over_files, in_pieces))
    assert schema == other
    assert data_bytes == other_bytes


def test_a_model_of_many_blocks_is_cut_where_tensors_end_or_not(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 10)
    rng = np.random.default_rng(1)
    model = [rng.normal(size=size).astype("float32") for size in (3, 25, 10, 1, 4)]
    assert [block.size for block in plan(schema_of(model)).blocks] == [10, 10, 8 + 2, 8 + 1 + 1, 3]
    updates = [[array + rng.normal() for array in model] for _ in range(5)]
    assert in_pieces(model, updates, [1, 2, 3, 4, 5], sgd()) == over_files(model, updates, [1, 2, 3, 4, 5], sgd())


@settings(max_examples=60, deadline=None)
@given(shapes=shapes, dtypes=st.lists(st.sampled_from(DTYPES), min_size=4, max_size=4))
def test_an_update_in_one_piece_has_the_blocks_that_its_arrays_have(shapes, dtypes):
    arrays = [np.arange(np.prod(shape)).astype(dtype).reshape(shape) for shape, dtype in zip(shapes, dtypes, strict=False)]
    total, model = PartialSum(mean(), plan(schema_of(arrays))), Params.of(arrays)
    gathered, there = total.blocks_of(arrays), total.blocks_in(model.buffer)
    assert [(block.dtype, block.tolist()) for block in there] == [(block.dtype, block.tolist()) for block in gathered]
    assert all(np.shares_memory(block, model.buffer) for block in there if block.size)


@pytest.mark.parametrize(
    ("kinds", "answered"),
    [(("float64", "int32", "float64"), "float64"), (("float32", "float16", "float32", "float32"), "float32")],
)
def test_a_tensor_that_becomes_wider_takes_its_place_between_others(kinds, answered):
    """Those beside it share a block: their numbers had changed places with its."""
    model = [np.full(2, 10.0 * i).astype(kind) for i, kind in enumerate(kinds)]
    updates = [[(array + 1).astype(answered) for array in model], [(array + 2).astype(answered) for array in model]]
    schema, data = in_pieces(model, updates, [1, 1], sgd())
    arrays = Params(schema, np.frombuffer(data, "uint8")).arrays()
    assert [array.tolist() for array in arrays] == [[10 * i + 1.5] * 2 for i in range(len(kinds))]
    assert (schema, data) == over_files(model, updates, [1, 1], sgd())


def test_what_is_beside_the_model_is_added_up_and_travels_with_it():
    rng = np.random.default_rng(3)
    model, control = [np.ones(3, "float32"), np.arange(2)], [np.zeros((2, 2), "float32")]
    schemas = schema_of(model), {"control": schema_of(control)}
    elsewhere, here = Adding(mean(), {"control": mean()}), Adding(mean(), {"control": mean()})
    total, changes = here.begin(*schemas), []
    for begin in range(0, 6, 2):
        part = elsewhere.begin(*schemas)
        for weight in (begin + 1, begin + 2):
            changes.append(rng.normal(size=(2, 2)).astype("float32"))
            part.add(part.blocks_of(model), weight, alike=True, beside={"control": [changes[-1]]})
        schema, data = part.stream()
        content = Params.from_bytes(bytearray(encode_header(schema) + b"".join(data)))
        total.merge(here.read(*schemas, content))
    made = np.frombuffer(b"".join(total.beside["control"].blocks(None, sgd())), "float32").reshape(2, 2)
    assert made.tolist() == np.average(changes, axis=0, weights=range(1, 7)).astype("float32").tolist()
    with pytest.raises(WireError, match="this is no sum of updates"):
        Adding(mean(), {}).read(schemas[0], {}, content)


@pytest.mark.parametrize(("finish", "found"), [(lambda acc, dtype: acc[:2], "shape (2,)"), (lambda *_: 0.5, "a float")])
@pytest.mark.parametrize("how", [over_files, in_pieces])
def test_an_aggregator_that_makes_another_shape_is_named(how, finish, found, monkeypatch):
    short = Aggregator(lambda _: 0.0, lambda acc, block, _: acc + block, lambda acc, other: acc + other, finish)
    monkeypatch.setitem(globals(), "mean", lambda: short)
    model = [np.ones(3, "float32")]
    with pytest.raises(StrategyError, match=re.escape(f"the aggregator made {found} of blocks of shape (3,)")):
        how(model, [model, model], [1, 1], sgd())


def test_an_empty_part_changes_nothing():
    model = [np.ones(3, "float32")]
    cut = plan(schema_of(model))
    total = PartialSum(mean(), cut)
    total.merge(PartialSum(mean(), cut))
    total.add([np.full(3, 2, "float32")], 5)
    total.merge(PartialSum(mean(), cut))
    assert total.updates == 1
    assert np.frombuffer(b"".join(total.blocks(None, sgd())), "float32").tolist() == [2, 2, 2]


@pytest.mark.parametrize("sizes", [(0,), (0, 0), (5, 0)])
def test_empty_tensors_have_no_blocks(sizes):
    model = [np.ones(size, "float32") for size in sizes]
    schema, data = in_pieces(model, [model, model], [1, 1], sgd())
    assert len(data) == schema.nbytes
