"""Bytes that a hostile or broken peer could send as a model: each is refused with `WireError`, and nothing else happens."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.errors import WireError
from umbel.params import Params
from umbel.wire import MAX_HEADER


def file(table: object, data: bytes = b"", *, claim: int | None = None, pad: bytes = b"") -> bytes:
    """A file with this header, whatever it says. `claim` is the length that it announces."""
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    text += pad
    return (len(text) if claim is None else claim).to_bytes(8, "little") + text + data


def tensor(dtype: object = "U8", shape: object = (4,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def one(**changes: object) -> bytes:
    """A valid file with one tensor of four bytes, but for the changes."""
    return file({"w": tensor(**changes)}, bytes(4))


def raw(entry: str, data: bytes = bytes(4)) -> bytes:
    """A file whose header is not what `json.dumps` would write."""
    return file(entry.encode(), data)


NESTED = b"[" * 100_000 + b"]" * 100_000
F32 = tensor("F32", [1], [0, 4])

HOSTILE: dict[str, bytes] = {
    # the file as a whole
    "empty": b"",
    "seven bytes": bytes(7),
    "length of nothing": bytes(8),
    "length only": (2).to_bytes(8, "little"),
    "header cut short": file({"w": tensor()}, claim=200),
    "header longer than claimed": file({"w": tensor()}, claim=2),
    "length 2^64 - 1": b"\xff" * 8 + b"{}",
    "length just above the limit": file(b"{}", claim=MAX_HEADER + 1),
    "length in the wrong byte order": (2).to_bytes(8, "big") + b"{}",
    "data missing": file({"w": tensor()}),
    "data one byte short": file({"w": tensor()}, bytes(3)),
    "data one byte long": file({"w": tensor()}, bytes(5)),
    "data without tensors": file({}, bytes(4)),
    "a numpy file": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n" + bytes(16),
    "a pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a zip": b"PK\x03\x04" + bytes(26),
    # the header as text
    "not JSON": file(b"hello, world"),
    "JSON without end": file(b'{"w": {"dtype": "U8"'),
    "two JSON values": file(b"{} {}"),
    "header of spaces": file(b"        "),
    "space before the brace": file(b" {}"),
    "byte order mark": file("\ufeff{}".encode()),
    "UTF-16": file("{}".encode("utf-16")),
    "not UTF-8": file(b'{"\xff\xfe": 1}'),
    "overlong UTF-8": file(b'{"\xc0\xaf": 1}'),
    "null bytes": file(bytes(16)),
    "single quotes": file(b"{'w': 1}"),
    "a comment": file(b"{/* nothing */}"),
    "NaN": raw('{"w": NaN}'),
    "NaN as a dimension": raw('{"w": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 4]}}'),
    "Infinity as an offset": raw('{"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, Infinity]}}'),
    "-Infinity": raw('{"w": {"dtype": "U8", "shape": [4], "data_offsets": [-Infinity, 4]}}'),
    "an array": file(b"[]"),
    "a string": file(b'"w"'),
    "a number": file(b"4"),
    "null": file(b"null"),
    "true": file(b"true"),
    "100,000 brackets": file(NESTED),
    "100,000 brackets as a tensor": file(b'{"w": ' + NESTED + b"}"),
    "a number of 5,000 digits": file(b'{"w": ' + b"9" * 5000 + b"}"),
    # names
    "the same name twice": raw(
        '{"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},'
        ' "w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}'
    ),
    "the same key twice": raw('{"w": {"dtype": "U8", "dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}'),
    "the same name, once escaped": raw(
        '{"w": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},'
        ' "\\u0077": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}}'
    ),
    "half of a surrogate pair": raw('{"\\ud800": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}'),
    # entries
    "entry is null": file({"w": None}),
    "entry is a list": file({"w": ["U8", [4], [0, 4]]}, bytes(4)),
    "entry is empty": file({"w": {}}),
    "no dtype": file({"w": {"shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
    "no shape": file({"w": {"dtype": "U8", "data_offsets": [0, 4]}}, bytes(4)),
    "no offsets": file({"w": {"dtype": "U8", "shape": [4]}}, bytes(4)),
    "one key too many": one(strides=[1]),
    # dtypes
    "unknown dtype": one(dtype="F128"),
    "dtype in lower case": one(dtype="u8"),
    "numpy's name of a dtype": one(dtype="uint8"),
    "complex": one(dtype="C64"),
    "object": one(dtype="O"),
    "dtype is a number": one(dtype=8),
    "dtype is null": one(dtype=None),
    "dtype is a list": one(dtype=["U8"]),
    "dtype with a null byte": one(dtype="U8\0"),
    # shapes
    "shape is a number": one(shape=4),
    "shape is a string": one(shape="4"),
    "shape is null": one(shape=None),
    "negative dimension": one(shape=[-4]),
    "two negative dimensions": one(shape=[-2, -2]),
    "float dimension": one(shape=[4.0]),
    "boolean dimension": file({"w": tensor(shape=[True], offsets=[0, 1])}, bytes(1)),
    "string dimension": one(shape=["4"]),
    "nested shape": one(shape=[[4]]),
    "dimension 1e999": raw('{"w": {"dtype": "U8", "shape": [1e999], "data_offsets": [0, 4]}}'),
    "dimension 2^62": one(shape=[2**62], offsets=[0, 2**62]),
    "dimension 2^64": one(shape=[2**64], offsets=[0, 2**64]),
    "product wraps round to 4": one(shape=[2**32 + 1, 2**32, 4]),
    "empty, but for numpy too big": file({"w": tensor("F64", [0, 2**61], [0, 0])}),
    "empty, with a product beyond 64 bits": file({"w": tensor("F64", [2**40, 0, 2**40], [0, 0])}),
    "33 dimensions": one(shape=[4] + [1] * 32),
    "a shape of the wrong size": one(shape=[5]),
    "a scalar that claims four bytes": one(shape=[]),
    # offsets
    "offsets are a number": one(offsets=4),
    "offsets are null": one(offsets=None),
    "one offset": one(offsets=[0]),
    "three offsets": one(offsets=[0, 2, 4]),
    "float offsets": one(offsets=[0.0, 4.0]),
    "boolean offsets": file({"w": tensor(shape=[1], offsets=[False, True])}, bytes(1)),
    "string offsets": one(offsets=["0", "4"]),
    "negative offsets": one(offsets=[-4, 0]),
    "end before begin": one(offsets=[4, 0]),
    "end beyond the file": one(offsets=[0, 2**63]),
    "begin and end beyond the file": one(offsets=[2**62, 2**62 + 4]),
    "offset of 2,000 digits": one(offsets=[0, 10**2000]),
    "a hole at the start": file({"w": tensor(offsets=[4, 8])}, bytes(8)),
    "a hole in the middle": file({"a": tensor(), "b": tensor(offsets=[8, 12])}, bytes(12)),
    "two tensors in one place": file({"a": tensor(), "b": tensor()}, bytes(4)),
    "tensors that overlap": file({"a": tensor(), "b": tensor(offsets=[2, 6])}, bytes(6)),
    "data in another order than the names": file({"a": tensor(offsets=[4, 8]), "b": tensor()}, bytes(8)),
    "small items before large ones": file({"a": tensor(), "b": tensor("F32", [1], [4, 8])}, bytes(8)),
    "sizes beyond 64 bits together": file(
        {
            "a": tensor(shape=[2**61], offsets=[0, 2**61]),
            "b": tensor(shape=[2**61], offsets=[2**61, 2**62]),
            "c": tensor(shape=[1], offsets=[2**62, 2**62 + 1]),
        }
    ),
    # metadata: an object of strings, or absent
    "metadata is a list": file({"__metadata__": ["umbel"], "w": F32}, bytes(4)),
    "metadata is null": file({"__metadata__": None, "w": F32}, bytes(4)),
    "metadata is a string": file({"__metadata__": "umbel", "w": F32}, bytes(4)),
    "metadata with a number": file({"__metadata__": {"round": 3}, "w": F32}, bytes(4)),
    "metadata within metadata": file({"__metadata__": {"a": {"b": "c"}}, "w": F32}, bytes(4)),
    "metadata that is a tensor": file({"__metadata__": F32}, bytes(4)),
    "metadata twice": raw('{"__metadata__": {}, "__metadata__": {}}', b""),
}


def test_there_are_enough_attacks():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_refused(data):
    with pytest.raises(WireError):
        Params.from_bytes(data)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_refusal_fits_a_log_line(data):
    with pytest.raises(WireError) as refusal:
        Params.from_bytes(data)
    assert 0 < len(str(refusal.value)) < 500


def test_a_name_of_a_megabyte_does_not_fill_the_log():
    with pytest.raises(WireError) as refusal:
        Params.from_bytes(file({"w" * 2**20: tensor(shape=[-1])}))
    assert len(str(refusal.value)) < 500


def test_what_the_corpus_is_derived_from_is_valid():
    assert Params.from_bytes(one()).arrays()[0].tolist() == [0, 0, 0, 0]
    assert Params.from_bytes(file({"__metadata__": {"format": "np"}, "w": F32}, bytes(4)))["w"].shape == (1,)
    assert Params.from_bytes(file({}, pad=b" " * 6)).arrays() == []


def read(data: bytes) -> list[np.ndarray]:
    """Reads a file and every value in it."""
    return [array.copy() for array in Params.from_bytes(data).arrays()]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_wire_errors(data):
    with suppress(WireError):
        read(data)


VALID = Params.of(
    {"conv.weight": np.arange(6, dtype="float32").reshape(2, 3), "steps": np.int64(7), "mask": np.array([True, False])}
).to_bytes()


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(st.integers(0, len(VALID) - 1), st.none() | st.integers(0, 255), min_size=1, max_size=4))
def test_a_file_with_flipped_or_lost_bytes_raises_nothing_but_wire_errors(changes):
    mutated = bytearray(VALID)
    for position, value in sorted(changes.items(), reverse=True):
        if value is None:
            del mutated[position]
        else:
            mutated[position] = value
    with suppress(WireError):
        read(bytes(mutated))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(["U8", "F64", "BOOL", "w"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__"]),
        JSON | st.fixed_dictionaries({"dtype": st.sampled_from(["U8", "F64"]) | JSON, "shape": JSON, "data_offsets": JSON}),
    ),
    st.binary(max_size=16),
)
def test_headers_that_are_almost_right_raise_nothing_but_wire_errors(table, data):
    with suppress(WireError):
        read(file(table, data))
