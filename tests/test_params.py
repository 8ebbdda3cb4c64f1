"""Parameters: one buffer, views of it, and whatever people hand in for arrays."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.errors import WireError
from umbel.params import Params, as_arrays, schema_of


def test_the_arrays_are_views_of_one_buffer():
    params = Params.of([np.zeros(2, "float32"), np.zeros(1, "int64")])
    params.arrays()[0][:] = 1
    params["1"][...] = 7
    assert params.buffer.tolist() == [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 128, 63]


def test_of_copies():
    array = np.zeros(2)
    params = Params.of([array])
    array[:] = 5
    assert params["0"].tolist() == [0, 0]


def test_what_is_read_from_a_bytearray_is_writable_and_from_bytes_is_not():
    data = Params.of([np.zeros(2)]).to_bytes()
    assert Params.from_bytes(bytearray(data)).arrays()[0].flags.writeable
    assert not Params.from_bytes(data).arrays()[0].flags.writeable


def test_a_buffer_of_another_size_is_refused():
    with pytest.raises(WireError, match="the schema needs 16 bytes of data, 15 are there"):
        Params(schema_of([np.zeros(2)]), np.zeros(15, np.uint8))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1.5, 2, True], ["float64", "int64", "bool"]),
        ([np.float32(1.5), np.int8(2), np.bool_(True)], ["float32", "int8", "bool"]),
        ([[1, 2], (3.5, 4.5)], ["int64", "float64"]),
        (np.zeros((2, 3), "float16"), ["float16"]),
        ((np.zeros(1), np.ones(1)), ["float64", "float64"]),
        ([np.zeros(2, ">f4"), np.zeros(2, ">u2")], ["float32", "uint16"]),
        (np.array([np.zeros(2), np.zeros(3)], dtype=object), ["float64", "float64"]),
        ([], []),
    ],
    ids=["Python", "numpy scalars", "lists", "bare array", "tuple", "big-endian", "array of arrays", "nothing"],
)
def test_arrays_are_accepted_as_people_send_them(given, expected):
    assert [array.dtype.name for array in as_arrays(given)] == expected


def test_arrays_that_are_not_row_major_keep_their_values():
    whole = np.arange(12, dtype=">i4").reshape(3, 4)
    for view in (whole.T, whole[:, ::2], whole[::-1], np.asfortranarray(whole), np.broadcast_to(whole[0], (2, 4))):
        (array,) = as_arrays([view])
        assert array.flags.c_contiguous
        assert array.dtype == np.dtype("int32")
        assert array.tolist() == view.tolist()


def test_what_needs_no_copy_is_not_copied():
    array = np.zeros(3, "float32")
    assert as_arrays([array])[0] is array


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("weights", "mapping of names to arrays, such as a state_dict; got str"),
        (b"weights", "mapping of names to arrays, such as a state_dict; got bytes"),
        (None, "mapping of names to arrays, such as a state_dict; got NoneType"),
        ({"w": {"kernel": np.zeros(1)}}, "array 'w' is a dict: names are flat; call what is in it 'w.…'"),
        ({1: np.zeros(1)}, "the names of parameters are str; got 1, a int"),
        ([("w", np.zeros(1))], "array 0 is a pair of a name and an array; make a mapping of the pairs: dict(pairs)"),
        (3.5, "mapping of names to arrays, such as a state_dict; got float"),
        ({1, 2}, "mapping of names to arrays, such as a state_dict; got set"),
        ([np.zeros(1), "w"], "array 1: dtype <U1 cannot travel"),
        ([None], "array 0: dtype object cannot travel; Umbel sends booleans, integers and real floats; this is a NoneType"),
        ([np.zeros(1, complex)], "array 0: dtype complex128 cannot travel"),
        ([np.array(["2020"], "datetime64")], "array 0: dtype datetime64"),
        ([[[1, 2], [3]]], "array 0 is a list that numpy cannot read"),
        (np.array(None, dtype=object), "array 0: dtype object cannot travel"),
        ([2**70], "array 0: dtype object cannot travel"),
    ],
)
def test_what_cannot_travel_is_named_with_its_position(given, text):
    with pytest.raises(WireError) as refusal:
        as_arrays(given)
    assert text in str(refusal.value)


def test_an_unknown_name_is_a_key_that_is_not_there():
    with pytest.raises(ValueError, match="not in tuple"):
        Params.of({"a": np.zeros(1)})["c"]


def test_the_repr_says_how_large_a_model_is():
    assert repr(Params.of([np.zeros(1000)])) == "Params(1 tensors, 8,000 bytes)"
