"""`umbel data`, as people type it."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from click.testing import CliRunner

from umbel.cli import main
from umbel.datasets import FederatedDataset

Y = np.array([0, 0, 0, 1, 0, 1, 2, 2] * 3)


@pytest.fixture
def source(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.arange(24), y=Y, many=np.arange(24))
    return str(tmp_path / "rows.npz")


def umbel(*words):
    return CliRunner().invoke(main, ["data", *words])


def test_a_partition_as_a_table(source):
    done = umbel("show", source, "-n", "3", "--label", "y")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["part", "rows", "0", "1", "2"]
    counts = np.array(lines[1:], int)
    assert counts[:, 1].tolist() == [8, 8, 8]
    assert counts[:, 2:].sum(axis=0).tolist() == np.bincount(Y).tolist()


def test_many_labels_are_only_counted(source):
    lines = umbel("show", source, "-n", "2", "--label", "many").stdout.splitlines()
    assert lines[0].split(maxsplit=2) == ["part", "rows", "values of many"]
    assert lines[1].split() == ["0", "12", "12"]


@pytest.mark.parametrize("how", [[], ["--heatmap", "--percent"]])
def test_a_partition_as_a_picture(source, tmp_path, how):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed").use("Agg")
    done = umbel("show", source, "--label", "y", "--picture", str(tmp_path / "parts.png"), *how)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")


def test_any_partitioner_with_its_settings(source):
    done = umbel("show", source, "-p", "dirichlet", "-n", "2", "-o", "partition_by=y", "-o", "alpha=[1, 2.5]", "-o",
                 "min_partition_size=1")  # fmt: skip
    assert done.exit_code == 0, done.output
    natural = umbel("show", source, "-p", "NaturalIdPartitioner", "-o", "partition_by=y", "--label", "y")
    assert natural.stdout.splitlines()[1].split() == ["0", "12", "12", "0", "0"]


def test_a_column_may_be_called_by_a_number(tmp_path):
    np.savez(tmp_path / "rows.npz", **{"0": np.arange(24), "1": Y})
    done = umbel("show", str(tmp_path / "rows.npz"), "-p", "NaturalId", "-o", "partition_by=1", "--label", "1")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split() == ["0", "12", "12", "0", "0"]
    vertical = umbel("show", str(tmp_path / "rows.npz"), "-p", "VerticalEven", "-n", "1", "-o", "shared_columns=1", "-o",
                     "active_party_columns_mode=0")  # fmt: skip
    assert vertical.exit_code == 0, vertical.output


def test_parts_of_arrays_become_files_that_federations_read(source, tmp_path):
    done = umbel("write", source, "-n", "3", "--out", str(tmp_path / "parts"))
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[2] == f"{tmp_path / 'parts' / 'partition_2.npz'}: 8 rows"
    theirs = FederatedDataset(dataset=source, partitioners={"train": 3}).load_partition(2)
    alone = FederatedDataset(dataset=tmp_path / "parts" / "partition_2.npz", partitioners={}).load_split("train")
    assert sorted(alone["x"].tolist()) == sorted(theirs["x"].tolist())


def test_parts_are_not_mixed_with_earlier_ones(source, tmp_path):
    parts = tmp_path / "parts"
    assert umbel("write", source, "-n", "3", "--out", str(parts)).exit_code == 0
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    done = umbel("write", source, "-n", "2", "--out", str(parts))
    assert done.exit_code == 1
    assert f"{parts} has parts already, such as partition_0.npz" in done.stderr
    assert {path.name: path.read_bytes() for path in parts.iterdir()} == before


def test_parts_of_hugging_face_data_become_folders(tmp_path):
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"x": list(range(9))})}).save_to_disk(tmp_path / "source")
    done = umbel("write", str(tmp_path / "source"), "-n", "3", "--out", str(tmp_path / "parts"))
    assert done.exit_code == 0, done.output
    parts = [datasets.load_from_disk(tmp_path / "parts" / f"partition_{number}") for number in range(3)]
    assert sorted(row for part in parts for row in part["x"]) == list(range(9))


def test_objects_cannot_be_written(tmp_path):
    from umbel.datasets.saving import save
    from umbel.datasets.sources.arrays import view_of
    from umbel.errors import DataError

    words = view_of({"word": np.array(["a", "bc"], object)})
    assert np.load(save(words, tmp_path / "words"))["word"].tolist() == ["a", "bc"]
    with pytest.raises(DataError, match=r"Column 'thing' holds Python objects"):
        save(view_of({"thing": np.array([{}, []], object)}), tmp_path / "things")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "gone.npz"], "gone.npz cannot be read"),
        (["show", "SOURCE", "-p", "Fair"], "There is no partitioner 'Fair'. There are: ContinuousPartitioner, "),
        (["show", "SOURCE", "-p", "Dirichlet"], "DirichletPartitioner missing 2 required positional arguments"),
        (["show", "SOURCE", "-o", "alpha"], "The option 'alpha' has no value: write it as NAME=VALUE"),
        (["show", "SOURCE", "-n", "25"], "25 partitions of 24 rows"),
        (["show", "SOURCE", "--label", "z"], "There is no column 'z'"),
        (["show", "SOURCE", "--split", "test"], "There is no split 'test' here. Splits: 'train'"),
        (["show", "SOURCE", "--picture", "parts.png"], "say which with --label"),
    ],
)
def test_mistakes_are_answered_in_a_line(source, words, said):
    done = umbel(*[source if word == "SOURCE" else word for word in words])
    assert done.exit_code == 1
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_what_can_be_fetched_is_listed():
    lines = umbel("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "mnist", "fashion-mnist", "randhie", "shakespeare", "vowel", "letters", "digits", "breast_cancer",
    ]  # fmt: skip
    assert umbel("fetch", "cifar").exit_code == 2
