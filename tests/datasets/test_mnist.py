"""MNIST from the local cache is the MNIST of the hub: same columns, same types, same digits."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pytest

from umbel.datasets import mnist
from umbel.datasets.mnist_files import FULL, TEST, TRAIN
from umbel.errors import DataError


@pytest.fixture(scope="module")
def loaded(mnist_files):
    return mnist.load(FULL)


def test_splits_and_features_are_the_hubs(loaded):
    assert {name: len(rows) for name, rows in loaded.items()} == {"train": 60_000, "test": 10_000}
    assert loaded["train"].features == datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(digit) for digit in range(10)])}
    )
    assert str(loaded["test"].split) == "test"


def test_an_example_is_a_picture_and_a_digit(loaded):
    first = loaded["train"][0]
    assert first["label"] == 5
    assert (first["image"].mode, first["image"].size) == ("L", (28, 28))


@pytest.mark.parametrize(("split", "names"), [("train", TRAIN), ("test", TEST)])
def test_every_pixel_is_that_of_the_original_files(loaded, mnist_files, split, names):
    rows = loaded[split].select(range(0, len(loaded[split]), 37)).with_format("numpy")[:]
    pixels = np.frombuffer(mnist_files.read(names[0]), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(mnist_files.read(names[1]), np.uint8, offset=8)
    assert rows["image"].dtype == np.uint8
    assert np.array_equal(rows["image"], pixels[::37])
    assert np.array_equal(rows["label"], labels[::37])


def test_a_second_process_maps_what_the_first_one_made(mnist_files, tmp_path, monkeypatch, loaded):
    (tmp_path / "mnist").symlink_to(mnist_files.path)
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    mnist.load(FULL)
    train, test = sorted((tmp_path / "tables").iterdir(), reverse=True)
    (tmp_path / "mnist").unlink()
    before = pa.total_allocated_bytes()
    again = mnist.load(FULL)
    assert pa.total_allocated_bytes() - before < 1e6, "47 MB of pictures stay on the disk"
    for split, rows in again.items():
        assert rows.data.table.equals(loaded[split].data.table)
        assert rows._fingerprint == loaded[split]._fingerprint
        assert rows.cache_files == [], "map keeps nothing beside it"
    content = train.read_bytes()
    at = content.index(loaded["train"].data.column("label").to_numpy().tobytes())
    lost_page = content[: at + 8000] + bytes(4096) + content[at + 12096 :]  # of the labels
    for damage in (b"", content[:-1000], test.read_bytes(), lost_page):
        train.unlink()  # what is mapped stays as it was
        train.write_bytes(damage)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte cannot be read"):
            mnist.load(FULL)


def test_one_version_of_a_table_is_kept(mnist_files, tmp_path, monkeypatch):
    (tmp_path / "mnist").symlink_to(mnist_files.path)
    (tmp_path / "tables").mkdir()
    old = tmp_path / "tables" / "mnist-train-0123456789abcdef.arrow"
    for name in (old.name, "mnist-test-extra-0123456789abcdef.arrow", "mnist-train.npz"):
        (tmp_path / "tables" / name).write_bytes(b"")
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    mnist.load(FULL)
    assert not old.exists()
    assert len(list((tmp_path / "tables").iterdir())) == 4


def test_a_damaged_file_is_refused_with_the_remedy(mnist_files, tmp_path, monkeypatch):
    content = bytearray(mnist_files.read(TRAIN[1]))
    copies = {name: mnist_files.path / name for name in mnist_files.sha256}
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for name, original in copies.items():
        (tmp_path / "mnist" / name).symlink_to(original)
    content[-1] ^= 1
    (tmp_path / "mnist" / TRAIN[1]).unlink()
    (tmp_path / "mnist" / TRAIN[1]).write_bytes(content)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte is damaged .* Run scripts/fetch-data, or"):
        mnist.load(FULL)
