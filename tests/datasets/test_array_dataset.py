"""Columns that are arrays, on every release of `datasets`; everything else as `datasets` has it."""

from __future__ import annotations

import pickle

import datasets
import numpy as np
import pyarrow as pa
import pytest

from umbel.datasets.array_dataset import ArrayDataset, as_arrays


@pytest.fixture
def ours(digits):
    return as_arrays(digits)


def test_column_under_numpy_format_is_an_array(ours, digits):
    formatted = ours.with_format("numpy")
    labels = formatted["label"]
    assert isinstance(labels, np.ndarray)
    assert labels.astype(np.uint32).tolist() == [number % 3 for number in range(60)]
    assert formatted["image"].shape == (60, 4, 5)
    assert formatted["image"].dtype == np.uint8


def test_other_formats_and_keys_are_as_in_datasets(ours, digits):
    assert type(ours["label"]) is type(digits["label"])
    assert list(ours["label"]) == list(digits["label"])
    assert ours[3]["label"] == digits[3]["label"]
    assert ours[2:4]["row"] == digits[2:4]["row"]
    assert isinstance(ours.with_format("arrow")["label"], pa.ChunkedArray)


def test_unknown_column_is_the_error_of_datasets(ours, digits):
    with pytest.raises((KeyError, ValueError)) as theirs:
        digits.with_format("numpy")["nothing"]
    with pytest.raises(type(theirs.value)):
        ours.with_format("numpy")["nothing"]


def test_format_is_set_as_in_datasets(ours):
    copy = ours.with_format("numpy")
    assert ours.format["type"] is None
    ours.set_format("numpy", columns=["row"])
    assert set(ours[0]) == {"row"}
    assert isinstance(ours["row"], np.ndarray)
    ours.reset_format()
    assert not isinstance(ours["row"], np.ndarray)
    assert copy.format["type"] == "numpy"


MADE = {
    "select": lambda d: d.select([3, 1, 2]),
    "select by array": lambda d: d.select(np.array([3, 1, 2])),
    "select twice": lambda d: d.select(np.array([30, 10, 20, 5])).select(np.array([2, 0, 1])),
    "select a run": lambda d: d.select(np.arange(7, 19)),
    "select by bytes": lambda d: d.select(np.array([3, 1, 2], np.uint8)),
    "select nothing": lambda d: d.select(np.array([], np.int64)),
    "select and map": lambda d: d.select(np.array([3, 1, 2])).map(lambda row: {"twice": 2 * row["row"]}),
    "select and split": lambda d: d.select(np.arange(50)[::-1]).train_test_split(test_size=0.25, seed=1)["test"],
    "shuffle": lambda d: d.shuffle(seed=1),
    "shard": lambda d: d.shard(num_shards=4, index=1),
    "sort": lambda d: d.sort("label"),
    "map": lambda d: d.map(lambda row: {"twice": 2 * row["row"]}),
    "batched map": lambda d: d.map(lambda rows: {"twice": 2 * rows["row"]}, batched=True),
    "filter": lambda d: d.filter(lambda row: row["row"] % 2 == 0),
    "filter by column": lambda d: d.filter(lambda row: row % 2 == 0, input_columns="row"),
    "train_test_split": lambda d: d.train_test_split(test_size=0.25, seed=1)["test"],
    "stratified split": lambda d: d.train_test_split(test_size=0.2, stratify_by_column="label", seed=1)["train"],
    "take": lambda d: d.take(5),
    "skip": lambda d: d.skip(5),
    "flatten_indices": lambda d: d.select_columns("row").select([5, 4]).flatten_indices(),
    "rename_column": lambda d: d.rename_column("row", "number").rename_column("number", "row"),
    "remove_columns": lambda d: d.remove_columns("image"),
    "select_columns": lambda d: d.select_columns(["row", "label"]),
    "cast_column": lambda d: d.cast_column("row", datasets.Value("int32")),
    "add_column": lambda d: d.add_column("more", list(range(60))),
    "with_format": lambda d: d.with_format("numpy"),
    "pickle": lambda d: pickle.loads(pickle.dumps(d)),
}


@pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")  # datasets to pyarrow 25, in sort
@pytest.mark.parametrize("how", MADE)
def test_what_is_made_of_it_is_the_same_kind_with_the_same_rows(digits, how):
    theirs = MADE[how](digits.with_format("numpy"))
    made = MADE[how](as_arrays(digits).with_format("numpy"))
    assert type(made) is ArrayDataset
    assert isinstance(made["row"], np.ndarray)
    assert made["row"].tolist() == list(theirs["row"])
    assert made.features == theirs.features
    assert made.format == theirs.format


def scaled(image):
    return {"img": image.reshape(-1).astype(np.float32) / 255.0}


def mixed(image):
    return {"mean": image.mean(), "small": np.uint8(image.max()), "text": str(image.shape), "list": [1, 2.5]}


def ragged(image):
    return {"some": image.ravel()[: image[0, 0] % 4]}


def replaced(image):
    return {"image": 255 - image}


def none(image):
    return None


FUNCTIONS = [scaled, mixed, ragged, replaced, none]
OPTIONS = [{}, {"remove_columns": ["image"]}, {"writer_batch_size": 7}, {"with_indices": True}, {"batch_size": 3}]


def same(made, theirs):
    assert made.features == theirs.features
    assert made.column_names == theirs.column_names
    assert made.data.table.combine_chunks().equals(theirs.data.table.combine_chunks())


@pytest.mark.filterwarnings("ignore:Downcasting array dtype")  # datasets writes arrays into image columns as int32
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_mapping_images_gives_what_plain_rows_give(digits, function, options):
    called = (lambda image, index: function(image)) if options.get("with_indices") else function
    theirs = digits.with_format("numpy").map(called, input_columns="image", **options)
    made = as_arrays(digits).with_format("numpy").map(called, input_columns="image", **options)
    same(made, theirs)
    assert type(made) is ArrayDataset


ALIKE = [(3, 4)] * 5
RAGGED = [(3, 4 + number) for number in range(5)]
COLOUR = [(3, 4, 3)] * 5


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [(sizes, dtype) for sizes in (ALIKE, RAGGED) for dtype in (np.uint8, np.uint16, np.int32, np.float32, bool)]
    + [(COLOUR, np.uint8)],
)
def test_images_of_all_kinds_reach_the_function_as_in_rows(sizes, dtype):
    images = [(np.arange(np.prod(size)).reshape(size) * 7 % 2**7).astype(dtype) for size in sizes]
    plain = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    seen = {}
    for kind, data in {"rows": plain, "batches": as_arrays(plain)}.items():
        got = seen.setdefault(kind, [])
        data.with_format("numpy").map(lambda image, got=got: got.append(image), input_columns="image")
    # Row maps call the function on the first row once more, to see what it returns, in some releases of datasets.
    for row, batch in zip(seen["rows"][-5:], seen["batches"][-5:], strict=True):
        assert row.dtype == batch.dtype
        assert np.array_equal(row, batch)


def test_missing_images_reach_the_function_as_none():
    plain = datasets.Dataset.from_dict(
        {"image": [np.zeros((2, 2), np.uint8), None]}, features=datasets.Features({"image": datasets.Image()})
    )

    def there(image):
        return {"there": image is not None}

    theirs = plain.with_format("numpy").map(there, input_columns="image")
    same(as_arrays(plain).with_format("numpy").map(there, input_columns="image"), theirs)


@pytest.mark.parametrize("column", ["label", "row", "float64", "int8", "flag"])
def test_other_columns_keep_their_types_on_the_way_to_the_function(digits, column):
    plain = digits.add_column("float64", [0.1] * 60).add_column("int8", [1] * 60).add_column("flag", [True] * 60)
    plain = plain.cast_column("int8", datasets.Value("int8"))
    types = {}
    for kind, data in {"rows": plain, "ours": as_arrays(plain)}.items():
        data = data.with_format("numpy")
        data.map(lambda value, kind=kind: types.setdefault(kind, (type(value), value.dtype)) and None, input_columns=column)
    assert types["ours"] == types["rows"]


def test_a_function_may_return_arrow_tables(digits):
    def table(image):
        return pa.table({"size": [image.size]})

    theirs = digits.with_format("numpy").map(table, input_columns="image", remove_columns=digits.column_names)
    made = as_arrays(digits).with_format("numpy").map(table, input_columns="image", remove_columns=digits.column_names)
    same(made, theirs)


def test_the_functions_own_error_comes_through(ours):
    def broken(image):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ours.with_format("numpy").map(broken, input_columns="image")


def test_datasets_itself_is_left_alone(digits):
    assert not hasattr(getattr(datasets.arrow_dataset, "Column", object), "astype")
    assert digits.with_format("numpy").map(scaled, input_columns="image").__class__ is datasets.Dataset
