"""An id has one number in all splits of a data set, whichever of them a process loads first and whatever it has kept."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.datasets import FederatedDataset
from umbel.datasets.partitioners import (
    FeatureShiftPartitioner,
    GroupedNaturalIdPartitioner,
    LocalSplitPartitioner,
    NaturalIdPartitioner,
)
from umbel.errors import DataError

IDS = {"train": ["b", "d", "b", "e", "d", "b"], "test": ["d", "a", "e", "a", "c"]}


def dataset(ids=IDS):
    return {split: {"who": np.array(names), "row": np.arange(len(names))} for split, names in ids.items()}


def federated(make, splits=("train", "test"), source=None, **options):
    return FederatedDataset(
        dataset=dataset() if source is None else source, partitioners={split: make() for split in splits}, **options
    )


def owners(fds, split):
    """Whose rows each partition has."""
    count = fds.partitioners[split].num_partitions
    return [sorted(set(map(str, fds.load_partition(number, split)["who"]))) for number in range(count)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_an_id_has_the_same_number_in_every_split(shuffle, order):
    fds = federated(lambda: NaturalIdPartitioner("who"), order, shuffle=shuffle)
    assert owners(fds, "test") == [["a"], [], ["c"], ["d"], ["e"]]
    assert owners(fds, "train") == [[], ["b"], [], ["d"], ["e"]]
    numbers = {split: fds.partitioners[split].partition_id_to_natural_id for split in order}
    assert numbers["train"] == numbers["test"] == dict(enumerate("abcde"))
    for split in order:
        rows = [row for number in range(5) for row in fds.load_partition(number, split)["row"].tolist()]
        assert sorted(rows) == list(range(len(IDS[split])))


@pytest.mark.parametrize("sort", [True, False])
def test_groups_of_ids_are_the_same_in_every_split(sort):
    def make():
        return GroupedNaturalIdPartitioner("who", 2, sort_unique_ids=sort)

    for order in (("train", "test"), ("test", "train")):
        fds = federated(make, order, shuffle=False)
        of = [fds.partitioners[split].natural_id_to_partition_id for split in order]
        first_seen = ["b", "d", "e", "a", "c"]
        assert of[0] == of[1] == {one: place // 2 for place, one in enumerate("abcde" if sort else first_seen)}
        for split in order:
            for number, names in enumerate(owners(fds, split)):
                assert all(of[0][name] == number for name in names)


def test_it_holds_inside_other_partitioners():
    def local():
        return LocalSplitPartitioner(NaturalIdPartitioner("who"), {"all": 1.0})

    def shifted():
        return FeatureShiftPartitioner(NaturalIdPartitioner("who"), lambda rows, number: rows)

    for make in (local, shifted):
        fds = federated(make)
        assert owners(fds, "train") == [[], ["b"], [], ["d"], ["e"]]
        assert owners(fds, "test") == [["a"], [], ["c"], ["d"], ["e"]]


def test_a_split_that_is_divided_alone_has_no_empty_partitions():
    assert owners(federated(lambda: NaturalIdPartitioner("who"), ["train"]), "train") == [["b"], ["d"], ["e"]]


def test_columns_of_two_names_are_two_numberings():
    source = dataset()
    source["test"]["speaker"] = source["test"].pop("who")
    partitioners = {"train": NaturalIdPartitioner("who"), "test": NaturalIdPartitioner("speaker")}
    fds = FederatedDataset(dataset=source, partitioners=partitioners)
    assert fds.partitioners["train"].num_partitions == 3
    assert fds.partitioners["test"].num_partitions == 4


def test_numbers_beside_text_are_an_error_that_says_so():
    fds = federated(lambda: NaturalIdPartitioner("who"), source=dataset({"train": ["a", "b"], "test": [1, 2]}))
    with pytest.raises(DataError, match="ids in column 'who' of the splits cannot be put in one order"):
        fds.load_partition(0, "train")


def test_rows_that_were_kept_for_one_split_are_not_taken_for_two(tmp_path, monkeypatch):
    """Of hub data, whose rows have a fingerprint and are kept on disk."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    source = datasets.DatasetDict({split: datasets.Dataset.from_dict({"who": names}) for split, names in IDS.items()})
    for _ in range(2):  # computed, and kept
        assert owners(federated(lambda: NaturalIdPartitioner("who"), ["train"], source), "train") == [["b"], ["d"], ["e"]]
        both = federated(lambda: NaturalIdPartitioner("who"), source=source)
        assert owners(both, "train") == [[], ["b"], [], ["d"], ["e"]]
        assert owners(both, "test") == [["a"], [], ["c"], ["d"], ["e"]]
    other = {**IDS, "test": ["d"]}
    changed = datasets.DatasetDict({split: datasets.Dataset.from_dict({"who": names}) for split, names in other.items()})
    assert owners(federated(lambda: NaturalIdPartitioner("who"), source=changed), "train") == [["b"], ["d"], ["e"]]
