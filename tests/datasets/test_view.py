"""A view is some rows and columns of a table, and nothing is read before it is asked for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.datasets import FederatedDataset, PathologicalPartitioner
from umbel.datasets.sources.arrays import from_file, view_of
from umbel.errors import DataError

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 4


@pytest.fixture
def view():
    return view_of({"x": X, "y": Y, "name": np.array([f"row {row}" for row in range(20)])})


@given(data=st.data())
def test_selecting_twice_is_selecting_once(data):
    first = data.draw(st.lists(st.integers(0, 19), min_size=1))
    second = data.draw(st.lists(st.integers(0, len(first) - 1)))
    view = view_of((X, Y)).select(first).select(second)
    assert view["x"].tolist() == X[first][second].tolist()
    assert [row[1] for row in view] == Y[first][second].tolist()
    assert len(view) == len(second)


def test_rows_columns_and_slices(view):
    assert view[3]["name"] == "row 3"
    assert view[-1]["y"] == 3
    assert view["y"].tolist() == Y.tolist()
    assert view[2:8:2]["name"].tolist() == ["row 2", "row 4", "row 6"]
    assert view[[5, 1]]["y"].tolist() == [1, 1]
    assert repr(view[:3]) == "View(3 rows, columns 'x', 'y', 'name')"


def test_columns_are_chosen_by_name(view):
    assert view.select_columns(["y"]).column_names == ["y"]
    assert view.remove_columns("name").column_names == ["x", "y"]
    assert sorted(view.remove_columns("name").select([4]).numpy()) == ["x", "y"]


def test_the_form_of_a_row_is_the_form_of_all_of_them():
    pair = view_of((X, Y)).select([1, 2])
    xs, ys = pair.numpy()
    assert (xs.shape, ys.tolist()) == ((2, 2), [1, 2])
    assert isinstance(pair[0], tuple)
    assert pair.select_columns("y").numpy().tolist() == [1, 2]
    assert np.shares_memory(view_of(X).numpy(), X), "not copied"


@given(size=st.integers(2, 50), share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_train_and_test_are_disjoint_and_complete(size, share, seed):
    view = view_of(np.arange(size))
    try:
        parts = view.train_test_split(share, seed=seed)
    except DataError:
        assert int(np.ceil(share * size)) == size
        return
    train, test = parts["train"]["x"].tolist(), parts["test"]["x"].tolist()
    assert sorted(train + test) == list(range(size))
    assert len(test) == int(np.ceil(share * size))
    assert view.train_test_split(share, seed=seed)["test"]["x"].tolist() == test


def test_a_split_is_the_same_on_every_machine():
    assert view_of(np.arange(10)).train_test_split(3)["test"]["x"].tolist() == [5, 8, 0]
    assert view_of(np.arange(10)).train_test_split(3, shuffle=False)["test"]["x"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("wrong", [0, 20, 1.0, 0.0, -1, True, "0.2", 0.999])
def test_a_split_that_leaves_nothing_is_refused(view, wrong):
    with pytest.raises(DataError, match=r"test_size is .*, of 20 rows: give a share between 0 and 1"):
        view.train_test_split(wrong)


@pytest.mark.parametrize("seed", [None, "a", 1.0])
def test_a_split_that_would_not_repeat_is_refused(view, seed):
    with pytest.raises(DataError, match=r"seed is .*, and must be a whole number"):
        view.train_test_split(0.5, seed=seed)


def test_what_is_not_there_is_named(view):
    with pytest.raises(DataError, match=r"no column 'label' here\. Columns: 'x', 'y', 'name'"):
        view["label"]
    with pytest.raises(DataError, match=r"no column 'label'"):
        view.remove_columns(["label"])
    with pytest.raises(DataError, match=r"Rows 5 to 20 were asked of a data set of 20: give numbers from 0 to 19"):
        view.select([5, 20])
    with pytest.raises(DataError, match=r"Rows -1 to -1 were asked"):
        view.select([-1])
    with pytest.raises(DataError, match=r"whole numbers, not by float64"):
        view.select([0.5])
    with pytest.raises(IndexError):
        view[20]


def test_a_view_travels_to_other_processes(view):
    assert pickle.loads(pickle.dumps(view[3:5]))["name"].tolist() == ["row 3", "row 4"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def test_torch_tensors_have_the_form_of_a_row(view, torch):
    tensors = view.remove_columns("name").torch()
    assert sorted(tensors) == ["x", "y"]
    assert torch.equal(tensors["x"], torch.arange(40, dtype=torch.float64).reshape(20, 2))
    assert torch.equal(tensors["y"], torch.arange(20) % 4)
    x, y = view_of((X, Y)).select([3, 1]).torch()
    assert (x.tolist(), y.tolist()) == ([[6, 7], [2, 3]], [3, 1])
    assert view_of(Y).torch().tolist() == Y.tolist()
    with pytest.raises(DataError, match=r"Column 'name' is <U6, and a tensor holds numbers"):
        view.torch()


@pytest.mark.filterwarnings("error")  # torch warns of what cannot be written to
def test_tensors_may_be_written_and_the_data_stay(view, torch, tmp_path):
    np.savez(tmp_path / "rows.npz", y=Y)
    mapped = from_file(tmp_path / "rows.npz")["train"]
    for source in (view.select_columns("y"), mapped):
        source.torch()["y"].zero_()
        assert source["y"].tolist() == Y.tolist()


def test_a_part_without_rows_becomes_tensors_too(torch):
    source = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    x, y = FederatedDataset(dataset=source, partitioners={}).load_split("train").select([]).torch()
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((0, 2), torch.float64, (0,), torch.int64)


@pytest.mark.parametrize("dtype", ["bool", "u1", "u2", "i1", "i4", "f2", "f4", "c8", ">i4", ">f8"])
def test_every_kind_of_number_becomes_a_tensor(dtype, torch):
    assert view_of(Y.astype(dtype)).torch().tolist() == Y.astype(dtype).tolist()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.system)])
def test_a_data_loader_takes_a_view_as_it_is(torch, workers):
    view = view_of((X, Y)).select(np.arange(20)[::-1])
    batches = list(torch.utils.data.DataLoader(view, batch_size=8, num_workers=workers))
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    assert torch.cat([x for x, _ in batches]).tolist() == X[::-1].tolist()
    shuffled = torch.utils.data.DataLoader(view, batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(1))
    assert sorted(next(iter(shuffled))[1].tolist()) == sorted(Y.tolist())


def test_a_torch_dataset_is_a_source(torch):
    source = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    fds = FederatedDataset(dataset=source, partitioners={"train": PathologicalPartitioner(4, "y", 1, "deterministic")})
    parts = [fds.load_partition(number) for number in range(4)]
    assert sorted(label for part in parts for label in part["y"].tolist()) == sorted(Y.tolist())
    assert {len(set(part["y"].tolist())) for part in parts} == {1}
    x, y = parts[0][0]
    assert torch.equal(x, source[int(x[0]) // 2][0])
    assert torch.is_tensor(y)
    assert torch.equal(parts[0].torch()[0], torch.stack([x for x, _ in parts[0]]))
    (x, _), *_ = torch.utils.data.DataLoader(parts[0], batch_size=5)
    assert x.shape == (5, 2)
