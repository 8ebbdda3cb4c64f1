"""A federation's data: every client asks for its own part, and the parts fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain

import datasets
import numpy as np
import pytest

from umbel.datasets import FederatedDataset, IidPartitioner, Partitioner
from umbel.datasets.array_dataset import ArrayDataset
from umbel.errors import DataError


@pytest.fixture
def both(digits):
    return datasets.DatasetDict({"train": digits.select(range(50)), "test": digits.select(range(50, 60))})


def rows(part):
    return part.with_format("numpy")["row"].tolist()


def test_parts_are_disjoint_and_cover_the_split(both):
    fds = FederatedDataset(dataset=both, partitioners={"train": 3})
    parts = [rows(fds.load_partition(number)) for number in range(3)]
    assert [len(part) for part in parts] == [17, 17, 16]
    assert sorted(chain(*parts)) == list(range(50))


def test_a_part_keeps_every_column_together(both, digits):
    part = FederatedDataset(dataset=both, partitioners={"train": 3}).load_partition(1)
    for example in part:
        assert example["label"] == digits[example["row"]]["label"]
        assert np.array_equal(np.array(example["image"]), np.array(digits[example["row"]]["image"]))


@pytest.mark.parametrize(
    "ask",
    [
        lambda fds: fds.load_partition(2),
        lambda fds: fds.load_partition(2, "train"),
        lambda fds: fds.load_partition(partition_id=2, split="train"),
        lambda fds: fds.load_partition(node_id=2),
        lambda fds: fds.load_partition(node_id=np.int64(2), split="train"),
    ],
)
def test_each_way_to_ask_gives_the_same_part(both, ask):
    fds = FederatedDataset(dataset=both, partitioners={"train": 3})
    assert rows(ask(fds)) == rows(fds.partitioners["train"].load_partition(2))


PARTS = """
import json, sys, datasets
from umbel.datasets import FederatedDataset
source = datasets.Dataset.from_dict({"row": list(range(1000))})
fds = FederatedDataset(dataset=source, partitioners={"train": 4}, seed=7)
print(json.dumps(fds.load_partition(int(sys.argv[1]))[:]["row"]))
"""


@pytest.mark.slow
@pytest.mark.system
def test_clients_in_processes_of_their_own_agree_without_talking():
    clients = [subprocess.Popen([sys.executable, "-c", PARTS, str(number)], stdout=subprocess.PIPE) for number in range(4)]
    parts = [json.loads(client.communicate()[0]) for client in clients]
    assert sorted(chain(*parts)) == list(range(1000))
    assert parts[0][:5] == [252, 118, 554, 612, 686]


def test_without_shuffling_the_order_is_the_datasets_own(both):
    fds = FederatedDataset(dataset=both, partitioners={"train": 5}, shuffle=False)
    assert rows(fds.load_partition(1)) == list(range(10, 20))
    assert rows(fds.load_split("test")) == list(range(50, 60))


def test_another_seed_is_another_division(both):
    one, other = (FederatedDataset(dataset=both, partitioners={"train": 3}, seed=seed) for seed in (1, 2))
    assert rows(one.load_partition(0)) != rows(other.load_partition(0))


def test_a_whole_split_is_shuffled_too(both):
    rows_of_test = rows(FederatedDataset(dataset=both, partitioners={"train": 3}).load_split("test"))
    assert rows_of_test != list(range(50, 60))
    assert sorted(rows_of_test) == list(range(50, 60))


def test_a_single_dataset_is_its_own_split(digits):
    fds = FederatedDataset(dataset=digits, partitioners={"train": IidPartitioner(num_partitions=2)})
    assert len(fds.load_partition(0)) == 30


def test_the_dataset_that_was_given_is_left_as_it_was(both):
    part = FederatedDataset(dataset=both, partitioners={"train": 3}).load_partition(0)
    part.set_format("numpy")
    assert type(part) is ArrayDataset
    assert type(both["train"]) is datasets.Dataset
    assert both["train"].format["type"] is None
    assert both["train"][:]["row"] == list(range(50))


def test_preprocessor_runs_between_shuffling_and_dividing(both):
    seen = []

    def keep_first_ten(splits):
        seen.append(rows(splits["train"]))
        return datasets.DatasetDict({"train": splits["train"].select(range(10))})

    fds = FederatedDataset(dataset=both, preprocessor=keep_first_ten, partitioners={"train": 2})
    parts = [rows(fds.load_partition(number)) for number in range(2)]
    assert [*chain(*parts)] == seen[0][:10]
    assert len(seen) == 1, "once, however many parts are asked for"


def test_nothing_is_loaded_before_the_first_question():
    FederatedDataset(dataset="no/such-thing", partitioners={"train": 3})


def test_two_divided_splits_need_to_be_named(both):
    fds = FederatedDataset(dataset=both, partitioners={"train": 3, "test": 2})
    assert len(fds.load_partition(1, "test")) == 5
    with pytest.raises(DataError, match=r"needs split=, one of 'train', 'test'"):
        fds.load_partition(1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (3, r"partition_id is 3, but there are 3 partitions: give a number from 0 to 2"),
        (-1, r"partition_id is -1, .* from 0 to 2"),
        (1.0, r"partition_id is 1\.0 \(float\), and must be a whole number from 0 to 2"),
        ("1", r"partition_id is '1' \(str\)"),
        (True, r"partition_id is True \(bool\)"),
        (float("nan"), r"partition_id is nan"),
        (np.arange(3), r"partition_id is array"),
    ],
)
def test_wrong_partition_id_is_told_the_range(both, wrong, said):
    with pytest.raises(DataError, match=said):
        FederatedDataset(dataset=both, partitioners={"train": 3}).load_partition(wrong)


def test_partition_id_and_node_id_are_one_thing(both):
    fds = FederatedDataset(dataset=both, partitioners={"train": 3})
    for both_or_none in ({}, {"partition_id": 1, "node_id": 1}):
        with pytest.raises(DataError, match="give exactly one"):
            fds.load_partition(**both_or_none)


def test_unknown_split_is_told_which_there_are(both):
    fds = FederatedDataset(dataset=both, partitioners={"train": 3})
    for ask in (fds.load_split, lambda split: fds.load_partition(0, split)):
        with pytest.raises(DataError, match=r"no split 'valid' here\. Splits: 'train', 'test'"):
            ask("valid")
    with pytest.raises(DataError, match=r"no split 'valid' here"):
        FederatedDataset(dataset=both, partitioners={"valid": 3}).load_split("test")


def test_split_that_is_not_divided_says_so(both):
    with pytest.raises(DataError, match=r"Split 'test' is not divided; partitioners= names 'train'"):
        FederatedDataset(dataset=both, partitioners={"train": 3}).load_partition(0, "test")


def test_where_nothing_is_divided_there_is_no_partition(both):
    with pytest.raises(DataError, match=r"No split is divided: partitioners= is empty\. .*, or take all .* with load_split"):
        FederatedDataset(dataset=both, partitioners={}).load_partition(0)


@pytest.mark.parametrize("wrong", [0, -3, 2.0, "3", None, True])
def test_wrong_number_of_partitions_is_refused_at_once(both, wrong):
    with pytest.raises(DataError, match=r"num_partitions is .*whole number from 1 up"):
        FederatedDataset(dataset=both, partitioners={"train": wrong})


def test_more_partitions_than_rows(both):
    with pytest.raises(DataError, match=r"51 partitions of 50 rows"):
        FederatedDataset(dataset=both, partitioners={"train": 51}).load_partition(0)


def test_wrong_settings_are_refused_at_once(both):
    with pytest.raises(DataError, match=r"partitioners is 3, .*such as \{'train': 3\}"):
        FederatedDataset(dataset=both, partitioners=3)
    with pytest.raises(DataError, match=r"seed is None"):
        FederatedDataset(dataset=both, partitioners={"train": 3}, seed=None)
    with pytest.raises(DataError, match=r"preprocessor is 'merge', and must be a function from splits to splits"):
        FederatedDataset(dataset=both, partitioners={"train": 3}, preprocessor="merge")
    with pytest.raises(DataError, match=r"merge_config\['train'\] is 3"):
        FederatedDataset(dataset=both, partitioners={"train": 3}, preprocessor={"train": 3})
    with pytest.raises(DataError, match=r"split='train' is not for a federation"):
        FederatedDataset(dataset="mnist", partitioners={"train": 3}, split="train")


@pytest.mark.parametrize("wrong", [None, 5, [], "", (np.eye(2) for _ in range(3)), np.eye, datasets.DatasetDict()])
def test_what_is_no_dataset_is_named(wrong):
    with pytest.raises(DataError, match=r"^dataset is "):
        FederatedDataset(dataset=wrong, partitioners={"train": 3}).load_partition(0)


def test_preprocessor_that_returns_something_else(both):
    with pytest.raises(DataError, match=r"preprocessor returned a NoneType"):
        FederatedDataset(dataset=both, preprocessor=print, partitioners={"train": 3}).load_partition(0)


def test_a_partitioner_serves_one_split(both):
    one = IidPartitioner(2)
    with pytest.raises(DataError, match=r"already divides a dataset of 50 rows\. Make one partitioner per split"):
        FederatedDataset(dataset=both, partitioners={"train": one, "test": one}).load_partition(0, "train")


def test_a_partitioner_without_dataset_says_so():
    alone = IidPartitioner(2)
    assert not alone.is_dataset_assigned()
    with pytest.raises(DataError, match=r"IidPartitioner has no dataset yet"):
        alone.load_partition(0)


def test_a_partitioner_of_ones_own(both):
    class EvenAndOdd(Partitioner):
        num_partitions = 2

        def load_partition(self, partition_id):
            return self.dataset.filter(lambda row: row["row"] % 2 == partition_id)

    fds = FederatedDataset(dataset=both, partitioners={"train": EvenAndOdd()})
    assert sorted(rows(fds.load_partition(1))) == list(range(1, 50, 2))


@pytest.mark.system
@pytest.mark.parametrize("missing", ["datasets", "PIL"])
def test_missing_package_names_the_extra(missing):
    script = f"""
import sys
sys.modules[{missing!r}] = None   # what an import finds that is not installed
from umbel.datasets import FederatedDataset
from umbel.errors import DataError
try:
    FederatedDataset(dataset="mnist", partitioners={{"train": 3}}).load_partition(0)
except DataError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "pip install 'umbel[datasets]'" in said


def test_import_stays_light():
    script = "import sys, umbel.datasets; print([m for m in ('datasets', 'pyarrow', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
