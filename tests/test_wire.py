"""The wire: what it writes, any safetensors reader reads; what it reads, it wrote, or another library did."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from umbel import wire
from umbel.errors import WireError
from umbel.params import Params, gather, schema_of
from umbel.wire import MAX_HEADER, Schema, TensorSpec, dtype_of, encode_header, know, parse_header, tag_of

FOREIGN = [np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")]
FOREIGN += [np.dtype(getattr(ml_dtypes, name)) for name in ("float8_e4m3fnuz", "float8_e5m2fnuz")]
NATIVE = [np.dtype(name) for name in ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]]
DTYPES = NATIVE + FOREIGN

shapes = npst.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[np.dtype] = DTYPES) -> np.ndarray:
    """An array of any bit patterns, NaN payloads included."""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(shapes)
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    raw = np.frombuffer(data, np.uint8) & (1 if dtype.kind == "b" else 255)
    return raw.view(dtype).reshape(shape)


models = st.dictionaries(names, arrays(), max_size=6)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@settings(deadline=None, max_examples=200)
@given(models)
def test_a_model_comes_back_bit_for_bit_under_its_names_and_in_its_order(model):
    back = Params.from_bytes(Params.of(model).to_bytes())
    assert back.schema.names == tuple(model)
    assert all(same_bits(array, back[name]) for name, array in model.items())


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(names, arrays(NATIVE), max_size=6))
def test_safetensors_reads_what_we_write(model):
    back = safetensors.numpy.load(Params.of(model).to_bytes())
    assert set(back) == set(model)
    assert all(same_bits(array, back[name]) for name, array in model.items())


@settings(deadline=None, max_examples=100)
# `metadata={}` of an empty model is no JSON in safetensors 0.8, so some metadata or none
@given(
    st.dictionaries(names, arrays(NATIVE), max_size=6),
    st.none() | st.dictionaries(names, st.text(max_size=5), min_size=1, max_size=2),
)
def test_we_read_what_safetensors_writes(model, metadata):
    back = Params.from_bytes(safetensors.numpy.save(model, metadata=metadata))
    assert set(back.schema.names) == set(model)
    assert all(same_bits(array, back[name]) for name, array in model.items())


def test_safetensors_accepts_the_tags_that_it_can_write_but_not_load():
    model = {dtype.name: np.zeros(8, dtype) for dtype in FOREIGN}
    with pytest.MonkeyPatch.context() as patch:  # its table of numpy types lacks them; its parser knows them
        patch.setattr(safetensors.numpy, "_view2np", lambda tensors: {name: None for name, _ in tensors})
        assert set(safetensors.numpy.load(Params.of(model).to_bytes())) == set(model)


@settings(deadline=None, max_examples=100)
@given(models)
def test_every_tensor_is_aligned_and_there_are_no_holes(model):
    params = Params.of(model)
    header = encode_header(params.schema)
    assert len(header) % 8 == 0
    pairs = list(zip(params.schema.offsets, params.schema.specs, strict=True))
    places = sorted((begin, begin + spec.nbytes) for begin, spec in pairs)
    assert [end for _, end in places] == [*(begin for begin, _ in places[1:]), *([params.schema.nbytes] if places else [])]
    for begin, spec in pairs:
        assert begin % dtype_of(spec.dtype).itemsize == 0 or spec.nbytes == 0


@settings(deadline=None, max_examples=100)
@given(models, st.data())
def test_gather_gives_the_buffer_however_it_is_cut(model, data):
    params = Params.of(model)
    cuts = data.draw(st.lists(st.integers(0, params.schema.nbytes), max_size=5))
    marks = [0, *sorted(cuts), params.schema.nbytes]
    values = [np.ascontiguousarray(array).reshape(array.shape) for array in model.values()]
    pieces = [b"".join(gather(params.schema, values, a, b)) for a, b in pairwise(marks)]
    assert [len(piece) for piece in pieces] == [b - a for a, b in pairwise(marks)]
    assert b"".join(pieces) == params.buffer.tobytes()


@settings(deadline=None, max_examples=100)
@given(models)
def test_the_header_alone_gives_the_schema(model):
    schema = Params.of(model).schema
    assert parse_header(encode_header(schema)) == schema
    assert parse_header(memoryview(encode_header(schema))) == schema


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_every_dtype_has_a_tag_of_its_own_that_leads_back(dtype):
    assert dtype_of(tag_of(dtype)) == dtype


def test_the_byte_order_of_an_array_does_not_change_its_tag():
    assert [tag_of(np.dtype(name)) for name in (">f4", "<f4", ">u2", ">i8")] == ["F32", "F32", "U16", "I64"]


@pytest.mark.parametrize("dtype", ["complex64", "object", "U5", "S3", "datetime64[s]", "longdouble", "V3"])
def test_a_dtype_that_cannot_travel_says_what_can(dtype):
    with pytest.raises(WireError, match="cannot travel; Umbel sends booleans, integers and real floats"):
        tag_of(np.dtype(dtype))


def test_a_model_without_tensors_is_a_file_too():
    assert Params.from_bytes(Params.of([]).to_bytes()).arrays() == []


def test_thirty_two_dimensions_travel():
    array = np.arange(2.0).reshape((1,) * 31 + (2,))
    assert Params.from_bytes(Params.of([array]).to_bytes()).arrays()[0].shape == array.shape


def test_two_tensors_of_one_name_are_not_written():
    with pytest.raises(WireError, match="2 tensors are called 'w'; give each a name of its own"):
        encode_header(schema_of([np.zeros(1), np.zeros(1)], ["w", "w"]))


def test_the_format_s_own_name_is_not_written():
    with pytest.raises(WireError, match="__metadata__"):
        encode_header(Params.of({"__metadata__": np.zeros(1)}).schema)


def test_a_name_that_is_not_unicode_is_not_written():
    with pytest.raises(WireError, match="is not Unicode text"):
        encode_header(Params.of({"\ud800": np.zeros(1)}).schema)


def test_a_header_beyond_the_limit_is_not_written():
    schema = Schema((TensorSpec("w" * MAX_HEADER, "U8", ()),))
    with pytest.raises(WireError, match=f"the limit is {MAX_HEADER}"):
        encode_header(schema)


def test_names_are_written_as_utf_8_without_escapes():
    header = encode_header(Params.of({"größe": np.zeros((), "u1")}).schema)
    assert "größe".encode() in header
    assert json.loads(header[8:]) == {"größe": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}


def test_the_sizes_of_a_schema_are_counted_in_python_integers():
    spec = TensorSpec("w", "F64", (2**31, 2**20))
    assert (spec.size, spec.nbytes, Schema((spec,)).nbytes) == (2**51, 2**54, 2**54)


@pytest.mark.parametrize(
    ("tag", "is_float"),
    [("F32", True), ("F64", True), ("BF16", True), ("F8_E5M2", True), ("BOOL", False), ("I8", False), ("U64", False)],
)
def test_which_dtypes_are_floats(tag, is_float):
    assert TensorSpec("w", tag, ()).is_float is is_float


def layout(size, name="w"):
    return Schema(tuple(TensorSpec(f"{name}{i}", "F32", (size, i)) for i in range(3)))


def test_the_header_of_a_known_layout_is_its_schema():
    schema = know(layout(701))
    header = encode_header(schema)
    assert parse_header(header) is schema
    assert parse_header(memoryview(bytearray(header))) is schema
    assert know(layout(701)) is schema
    assert encode_header(layout(701)) is header


@pytest.mark.parametrize("position", [0, 8, 20, -1])
def test_a_header_that_is_nearly_that_of_a_known_layout_is_read(position):
    schema = know(layout(702))
    header = bytearray(encode_header(schema))
    header[position] ^= 0x11
    with contextlib.suppress(WireError):
        assert parse_header(header) != schema


def test_headers_of_strangers_are_not_remembered():
    schema = know(layout(703))
    before = wire._known
    for size in range(1, 200):
        header = encode_header(layout(size, "stranger"))
        assert parse_header(header) == layout(size, "stranger")
        assert parse_header(header) is not parse_header(header)
    assert wire._known is before
    assert parse_header(encode_header(schema)) is schema


def test_only_the_newest_layouts_are_known_and_no_more_than_some_megabytes():
    first = know(layout(704))
    for size in range(800, 830):
        know(layout(size))
    assert len(wire._known) == 8
    assert parse_header(encode_header(first)) is not first
    assert parse_header(encode_header(first)) == first
    for i in range(6):
        know(Schema((TensorSpec(f"{i}" + "n" * 10 * 2**20, "F32", ()),)))
    assert sum(len(header) for header, _ in wire._known) <= 32 * 2**20
    know(layout(705))
