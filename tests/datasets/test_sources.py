"""Every kind of source becomes the same splits, and what is no source is told what would be one."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import pytest

from umbel.datasets import FederatedDataset
from umbel.datasets.array_dataset import ArrayDataset
from umbel.datasets.view import View
from umbel.errors import DataError

X = np.arange(60.0).reshape(30, 2)
Y = np.arange(30) % 3


def part_of(source, number=1, **settings):
    return FederatedDataset(dataset=source, partitioners={"train": 3}, **settings).load_partition(number)


class Torchlike:
    """What a torch dataset looks like from outside."""

    def __len__(self):
        return 30

    def __getitem__(self, number):
        return X[number], Y[number]


def saved(folder, suffix):
    path = folder / f"rows{suffix}"
    match suffix:
        case ".npz":
            np.savez(path, x=X, y=Y)
        case "-compressed.npz":
            np.savez_compressed(path, x=X, y=Y)
        case ".csv":
            pd.DataFrame({"x": X[:, 0], "y": Y}).to_csv(path, index=False)
        case ".parquet":
            pd.DataFrame({"x": X[:, 0], "y": Y}).to_parquet(path)
        case ".json" | ".jsonl":
            pd.DataFrame({"x": X[:, 0], "y": Y}).to_json(path, orient="records", lines=True)
        case "-folder":
            datasets.Dataset.from_dict({"x": X[:, 0], "y": Y}).save_to_disk(path)
        case "-splits":
            datasets.DatasetDict({"train": datasets.Dataset.from_dict({"x": X[:, 0], "y": Y})}).save_to_disk(path)
    return path


IN_MEMORY = {
    "tuple": lambda: (X, Y),
    "tuple of lists": lambda: (X.tolist(), Y.tolist()),
    "tuple of an array and a list": lambda: (X, Y.tolist()),
    "tuple of tensors": lambda: tuple(map(pytest.importorskip("torch").from_numpy, (X, Y))),
    "dict": lambda: {"x": X, "y": Y},
    "dict of lists": lambda: {"x": X.tolist(), "y": Y.tolist()},
    "splits": lambda: {"train": (X, Y), "test": {"x": X[:4], "y": Y[:4]}},
    "pandas": lambda: pd.DataFrame({"x": X[:, 0], "y": Y}),
    "polars": lambda: pytest.importorskip("polars").DataFrame({"x": X[:, 0], "y": Y}),
    "getitem": Torchlike,
    "list of tuples": lambda: list(zip(X, Y, strict=True)),
    "list of dicts": lambda: [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)],
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_each_kind_of_data_in_memory_gives_a_view_with_the_same_rows(kind):
    part = part_of(IN_MEMORY[kind]())
    assert isinstance(part, View)
    expected = part_of((X, Y)).column("y").tolist()
    assert part["y"].tolist() == expected
    assert [np.ravel(x)[0] % 60 for x in part["x"]] == [2.0 * row for row in rows_of(expected, part)]


def rows_of(labels, part):
    """Which rows of X these are, by their first column, which is twice the row."""
    rows = [int(np.ravel(x)[0]) // 2 for x in part["x"]]
    assert [row % 3 for row in rows] == labels
    return rows


@pytest.mark.parametrize("suffix", [".npz", "-compressed.npz"])
@pytest.mark.parametrize("as_text", [True, False])
def test_npz_files_give_views(tmp_path, suffix, as_text):
    path = saved(tmp_path, suffix)
    part = part_of(str(path) if as_text else path)
    assert part["y"].tolist() == part_of((X, Y))["y"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".jsonl", "-folder", "-splits"])
def test_files_and_folders_of_hugging_face_give_its_datasets(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    part = part_of(str(saved(tmp_path, suffix)))
    assert type(part) is ArrayDataset
    part.set_format("numpy")
    assert part["y"].tolist() == part_of((X, Y))["y"].tolist()


@pytest.mark.parametrize(("folder", "like_it"), [("rows [12]", "rows 1"), ("rows*", "rowssss"), ("row?", "rows")])
def test_a_path_is_no_pattern_that_other_files_match(tmp_path, monkeypatch, folder, like_it):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for number, name in enumerate((folder, like_it)):
        (tmp_path / name).mkdir()
        pd.DataFrame({"x": [number] * 3}).to_csv(tmp_path / name / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path / folder)
    for path in ("rows.csv", tmp_path / folder / "rows.csv"):
        assert list(part_of(path)["x"]) == [0]
    for source in ({"source": tmp_path / folder}, {"source": "csv", "data_dir": "."}):
        with pytest.raises(DataError, match=r"has one of \* \? \[ in its path, .*: rename it, or give one file"):
            part_of(**source)


def test_a_dict_of_hugging_face_datasets_gives_its_datasets():
    whole = datasets.Dataset.from_dict({"y": Y})
    part = part_of({"train": whole, "test": whole})
    assert type(part) is ArrayDataset
    assert part.with_format("numpy")["y"].tolist() == part_of((X, Y))["y"].tolist()


def test_one_array_is_a_column_of_its_own():
    part = part_of(X)
    assert part.column_names == ["x"]
    assert part[0].shape == (2,)
    assert part.numpy().shape == (10, 2)


def test_an_npz_may_hold_splits(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=X, y_train=Y, x_test=X[:5], y_test=Y[:5])
    fds = FederatedDataset(dataset=tmp_path / "mnist.npz", partitioners={"train": 3, "test": 1}, shuffle=False)
    assert fds.load_partition(0, "test")["y"].tolist() == [0, 1, 2, 0, 1]
    assert fds.load_partition(0, "train").column_names == ["x", "y"]


@pytest.mark.parametrize("part", ["train[:20]", "train"])
def test_a_slice_of_a_split_is_that_split(tmp_path, monkeypatch, part):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    some = datasets.load_dataset("csv", data_files=str(saved(tmp_path, ".csv")), split=part)
    some.save_to_disk(tmp_path / "some")
    for source in (some, tmp_path / "some"):
        assert len(part_of(source, 0)) == len(some) // 3 + (len(some) % 3 > 0)


def test_what_is_mapped_is_not_copied(tmp_path):
    np.savez(tmp_path / "rows.npz", x=X, y=Y)
    np.save(tmp_path / "rows.npy", X)
    for name, array in (("rows.npz", X), ("rows.npy", X)):
        whole = FederatedDataset(dataset=tmp_path / name, partitioners={"train": 3}, shuffle=False).load_split("train")
        assert isinstance(whole["x"], np.memmap)
        assert np.array_equal(whole["x"], array)


def test_fortran_order_text_and_empty_columns_come_back_as_they_were(tmp_path):
    text = np.array([f"row {row}" for row in range(30)])
    np.savez(tmp_path / "rows.npz", f=np.asfortranarray(X), text=text, none=np.empty((30, 0)))
    whole = FederatedDataset(dataset=tmp_path / "rows.npz", partitioners={"train": 3}, shuffle=False).load_split("train")
    assert np.array_equal(whole["f"], X)
    assert whole["text"].tolist() == text.tolist()
    assert whole["none"].shape == (30, 0)


def test_torchvisions_labels_are_read_without_the_pictures():
    class Pictures(Torchlike):
        targets = Y.tolist()
        asked = 0

        def __getitem__(self, number):
            type(self).asked += 1
            return super().__getitem__(number)

    source = Pictures()
    part = part_of(source)
    assert part["y"].tolist() == part_of((X, Y))["y"].tolist()
    assert Pictures.asked == 1, "the first row, to see its form"


def test_a_preprocessor_gets_and_returns_views():
    def only_even(splits):
        return {name: rows.select(np.flatnonzero(rows["y"] == 0)) for name, rows in splits.items()}

    assert part_of((X, Y), preprocessor=only_even)["y"].tolist() == [0, 0, 0]
    with pytest.raises(DataError, match=r"preprocessor returned a NoneType, and must return a dict of views"):
        part_of((X, Y), preprocessor=print)


WRONG = {
    "lengths": ({"x": X, "y": Y[:7]}, r"different lengths: 'x' 30, 'y' 7\. Give each row a value"),
    "no rows": ((X[:0], Y[:0]), r"Split 'train' of the dataset has no rows"),
    "scalar": ({"x": np.array(3)}, r"Column 'x' is a single value, array\(3\)"),
    "ragged": ({"x": [[1], [2, 3]], "y": [0, 1]}, r"Column 'x' of the dataset, a list, cannot be made an array"),
    "ragged tuple": (([[1], [2, 3]], [0, 1]), r"Column 'x' of the dataset, a list, .* Give an array with a row per example"),
    "nothing": ({}, r"^dataset is \{\} \(dict\)\. Give a name"),
    "generator": ((row for row in X), r"^dataset is <generator .* read from front to end cannot be divided"),
    "a split": ({"train": (X, Y), "test": 5}, r"^split 'test' of dataset is 5 \(int\)\. Give each split as numpy arrays"),
    "a file": ({"train": "a.csv"}, r"'a.csv' \(str\)\. Give each split as .* Files by split are for dataset='csv', data_f"),
    "keys": ({"train": Torchlike}, r"^split 'train' of dataset is <class"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_divided_is_named_with_the_remedy(kind):
    source, said = WRONG[kind]
    with pytest.raises(DataError, match=said):
        part_of(source)


def test_a_first_row_that_cannot_be_had_is_said():
    class ByName:
        def __len__(self):
            return 3

        def __getitem__(self, name):
            return {"a": 1}[name]

    with pytest.raises(DataError, match=r"first row of a ByName of 3 cannot be had: dataset\[0\] raised KeyError: 0"):
        part_of(ByName())


def test_rows_may_have_numbers_for_keys():
    part = part_of([{0: x, 1: y} for x, y in zip(X, Y, strict=True)])
    assert part.column_names == ["0", "1"]
    assert part["1"].tolist() == part_of((X, Y))["y"].tolist()


def test_rows_of_another_form_are_named():
    with pytest.raises(DataError, match=r"Row 1 is a dict, and row 0 has the columns x, y: give every row the same form"):
        FederatedDataset(dataset=[{"x": 1, "y": 2}, {"x": 1}], partitioners={"train": 1}).load_partition(0)["y"]
    with pytest.raises(DataError, match=r"Row 2 is a int, and row 0 has the columns x, y"):
        FederatedDataset(dataset=[(1, 2), (3, 4), 5], partitioners={"train": 1}).load_partition(0)["y"]


def test_a_streaming_dataset_is_refused():
    streaming = datasets.Dataset.from_dict({"y": Y}).to_iterable_dataset()
    with pytest.raises(DataError, match=r"IterableDataset, which streams"):
        part_of(streaming)


def test_frames_that_name_no_column_apart():
    polars = pytest.importorskip("polars")
    with pytest.raises(DataError, match=r"two columns 'a'"):
        part_of(pd.DataFrame(X, columns=["a", "a"]))
    with pytest.raises(DataError, match=r"no columns"):
        part_of(pd.DataFrame())
    with pytest.raises(DataError, match=r"polars\.LazyFrame.*frame\.collect\(\)"):
        part_of(polars.LazyFrame({"y": Y}))


@pytest.mark.parametrize("name", ["gone.npz", "gone.npy", "gone.csv", "gone.parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}.* Give the path of a file that is there"):
        part_of(str(tmp_path / name))


@pytest.mark.parametrize("name", ["/gone/folder", "./gone", "../gone", "~/gone", "gone/two/three"])
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(name):
    with pytest.raises(DataError, match=rf"There is no folder or file '{name}' .* Give the path of one that is there"):
        part_of(name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.parquet", b"PAR1 and nothing"), ("rows.json", b'{"a": 1'), ("rows.csv", b""), ("rows.csv", b"x,y\n")],
)
def test_a_damaged_file_is_named(tmp_path, monkeypatch, name, content):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} cannot be read: .+\. It must be whole and have rows\.$"):
        part_of(tmp_path / name)


def test_a_keyword_that_load_dataset_does_not_know_is_named(tmp_path):
    with pytest.raises(DataError, match=r"argument 'sepp'.* rows; sepp= must be known to load_dataset\('csv'\)"):
        part_of(saved(tmp_path, ".csv"), sepp=";")


def test_a_cache_of_hugging_face_that_takes_nothing_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(DataError, match=r"rows\.csv cannot be read: .*Not a directory.* and HF_HOME, .* a folder that can"):
        part_of(saved(tmp_path, ".csv"))


@pytest.mark.parametrize("damage", [lambda b: b[:500], lambda b: b"", lambda b: b[:-10], lambda b: b"junk" * 99])
def test_a_damaged_npz_is_named(tmp_path, damage):
    path = saved(tmp_path, ".npz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"rows\.npz cannot be used: .* write it again"):
        part_of(path)


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_python_objects_in_a_file_are_never_loaded(tmp_path, pack):
    pack(tmp_path / "rows.npz", x=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(DataError, match=r"cannot be used: .*no Python objects"):
        part_of(tmp_path / "rows.npz")


def test_settings_of_load_dataset_are_for_hugging_face_only():
    with pytest.raises(DataError, match=r"subset='plain' is for data that Hugging Face's load_dataset reads"):
        part_of((X, Y), subset="plain")
    with pytest.raises(DataError, match=r"data_dir='here' is for"):
        part_of((X, Y), data_dir="here")


def test_a_damaged_folder_is_named(tmp_path):
    folder = saved(tmp_path, "-folder")
    (folder / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"rows-folder cannot be read: .*Save it again with save_to_disk"):
        part_of(str(folder))
