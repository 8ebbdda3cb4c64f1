"""Which rows a client has is worked out once on a machine, and never taken from a file that is not whole or not meant."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import datasets
import numpy as np
import pytest

from umbel.datasets import (
    DirichletPartitioner,
    DistributionPartitioner,
    DriftPartitioner,
    FederatedDataset,
    HierarchicalPartitioner,
    IidPartitioner,
    InnerDirichletPartitioner,
    LocalSplitPartitioner,
    NaturalIdPartitioner,
    RowPartitioner,
    index_cache,
)
from umbel.errors import DataError

Y = np.arange(100) % 7


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    return tmp_path / "indices"


@pytest.fixture
def computed(monkeypatch):
    """How often a partition was worked out."""
    times = []
    assign = IidPartitioner.assign
    monkeypatch.setattr(IidPartitioner, "assign", lambda self: times.append(1) or assign(self))
    return times


def federation(**settings):
    return FederatedDataset(**{"dataset": {"row": np.arange(100), "y": Y}, "partitioners": {"train": 4}} | settings)


def rows(fds, number=1, split=None):
    return fds.load_partition(number, split)["row"].tolist()


def test_the_second_asker_computes_nothing_and_gets_the_same(folder, computed):
    first = [rows(federation(), number) for number in range(4)]
    assert len(computed) == 1
    assert first == [rows(federation(), number) for number in range(4)]
    assert len(computed) == 1
    assert first == [federation().partitioners["train"].load_partition(n)["row"].tolist() for n in range(4)]
    assert sorted(chain(*first)) == list(range(100))
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 43},
        {"shuffle": False},
        {"partitioners": {"train": 5}},
        {"dataset": {"row": np.arange(100), "y": Y + 1}},
        {"dataset": {"row": np.arange(100), "z": Y}},
        {"dataset": {"row": np.arange(100), "y": Y.astype(np.int32)}},
        {"dataset": {"train": {"row": np.arange(99), "y": Y[:99]}}},
    ],
    ids=str,
)
def test_whatever_else_is_asked_is_another_file(folder, computed, other):
    rows(federation())
    rows(federation(**other))
    assert len(computed) == 2
    assert len(list(folder.iterdir())) == 2


def test_hugging_face_datasets_are_known_by_their_fingerprint(folder, computed):
    source = datasets.Dataset.from_dict({"row": list(range(50))})
    parts = [FederatedDataset(dataset=source, partitioners={"train": 2}).load_partition(0)[:]["row"] for _ in range(2)]
    assert parts[0] == parts[1]
    assert len(computed) == 1
    changed = source.map(lambda row: {"row": -row["row"]})
    part = FederatedDataset(dataset=changed, partitioners={"train": 2}).load_partition(0)[:]["row"]
    assert part == [-row for row in parts[0]]
    assert len(computed) == 2


def test_a_preprocessor_of_hugging_face_data_is_followed(folder, computed):
    source = datasets.Dataset.from_dict({"row": list(range(50))})

    def of(preprocessor):
        return FederatedDataset(dataset=source, preprocessor=preprocessor, partitioners={"train": 2}).load_partition(0)[:]

    def first_ten(splits):
        return datasets.DatasetDict({"train": splits["train"].select(range(10))})

    assert of(first_ten) == of(first_ten)
    assert len(computed) == 1
    assert len(of(lambda splits: splits)["row"]) == 25
    assert len(computed) == 2


def test_what_a_preprocessor_writes_does_not_reach_the_rows_that_are_kept(folder):
    class Torchlike(list):
        targets = Y.copy()

    def spoil(splits):
        splits["train"]["y"][:] = 0

    for source in ((np.arange(100), Y.copy()), Torchlike((row, row % 7) for row in range(100))):
        settings = {"dataset": source, "shuffle": False}
        with pytest.raises(ValueError, match="read-only"):
            federation(**settings, preprocessor=spoil).load_split("train")
        part = federation(**settings, partitioners={"train": NaturalIdPartitioner("y")}).load_partition(2)
        assert set(part["y"].tolist()) == {2}


ALPHAS = {
    "dirichlet": lambda alpha: DirichletPartitioner(2, "y", alpha, min_partition_size=0),
    "inner dirichlet": lambda alpha: InnerDirichletPartitioner([7, 7], "y", alpha),
    "distribution": lambda table: DistributionPartitioner(np.broadcast_to(table, (2, 2)), 2, 2, "y", 0),
}


@pytest.mark.parametrize("kind", ALPHAS)
def test_an_array_that_its_owner_changes_afterwards_does_not_change_the_setting(folder, kind):
    def part(alpha, later):
        fds = federation(dataset={"row": np.arange(100), "y": Y % 2}, partitioners={"train": ALPHAS[kind](alpha)})
        alpha[:] = later
        return rows(fds)

    kept = part(np.array([100.0, 0.1]), [0.1, 100.0])
    assert part(np.array([100.0, 0.1]), [100.0, 0.1]) == kept, "as another process would find them"
    for file in folder.iterdir():
        file.unlink()
    assert part(np.array([100.0, 0.1]), [100.0, 0.1]) == kept


def test_a_partitioner_of_ones_own_is_asked_every_time(folder):
    class Reversed(RowPartitioner):
        num_partitions = 2
        step = -1

        def assign(self):
            return [np.arange(len(self.dataset))[:: self.step][part::2] for part in range(2)]

    one = rows(federation(partitioners={"train": Reversed()}, shuffle=False), 0)
    Reversed.step = 1
    other = rows(federation(partitioners={"train": Reversed()}, shuffle=False), 0)
    assert (one[0], other[0]) == (99, 0)
    assert not folder.exists()


COMPOSED = {
    "drift": lambda: DriftPartitioner(IidPartitioner(4), IidPartitioner(4), 10).at_round(3),
    "regions": lambda: HierarchicalPartitioner(IidPartitioner(2), 3),
    "regions of their own": lambda: HierarchicalPartitioner(IidPartitioner(2), lambda region: IidPartitioner(region + 1)),
    "natural regions": lambda: HierarchicalPartitioner(NaturalIdPartitioner("y"), 2),
    "splits of clients": lambda: LocalSplitPartitioner(IidPartitioner(4), {"train": 0.5, "test": 0.5}).of("test"),
}
OTHERS = {
    "drift": lambda: DriftPartitioner(IidPartitioner(4), IidPartitioner(4), 10).at_round(4),
    "regions": lambda: HierarchicalPartitioner(IidPartitioner(2), 4),
    "regions of their own": lambda: HierarchicalPartitioner(IidPartitioner(2), lambda region: IidPartitioner(region + 2)),
    "natural regions": lambda: HierarchicalPartitioner(NaturalIdPartitioner("y"), 3),
    "splits of clients": lambda: LocalSplitPartitioner(IidPartitioner(4), {"train": 0.5, "test": 0.5}),
}


@pytest.mark.parametrize("kind", COMPOSED)
def test_partitions_made_of_partitions_are_kept_too(folder, computed, kind):
    first = rows(federation(partitioners={"train": COMPOSED[kind]()}))
    (kept,) = folder.iterdir()
    times = len(computed)
    assert rows(federation(partitioners={"train": COMPOSED[kind]()})) == first
    assert len(computed) == times > 0
    rows(federation(partitioners={"train": OTHERS[kind]()}))
    assert len(computed) > times
    assert {kept} < set(folder.iterdir())


@pytest.mark.parametrize("kept", [False, True])
def test_a_partitioner_of_the_users_has_its_data_whether_or_not_rows_are_kept(folder, computed, kept):
    clients = LocalSplitPartitioner(IidPartitioner(4), {"train": 0.8, "test": 0.2})
    ids = NaturalIdPartitioner("y")
    if kept:
        rows(federation(partitioners={"train": LocalSplitPartitioner(IidPartitioner(4), {"train": 0.8, "test": 0.2})}))
        rows(federation(partitioners={"train": NaturalIdPartitioner("y")}))
    times = len(computed)
    train = rows(federation(partitioners={"train": clients}))
    assert clients.is_dataset_assigned()
    assert len(computed) == times + (not kept), "what is kept is not worked out again"
    test = clients.of("test").load_partition(1)["row"].tolist()
    assert (len(train), len(test), set(train) & set(test)) == (20, 5, set())
    first = rows(federation(partitioners={"train": ids}))
    assert ids.num_partitions == 7
    assert ids.load_partition(1)["row"].tolist() == first


@pytest.mark.parametrize("kept", [False, True])
def test_one_drift_and_one_split_of_clients_serve_several_federations(folder, kept):
    for _ in range(1 + kept):
        drift = DriftPartitioner(IidPartitioner(2), IidPartitioner(2), 4)
        rounds = [federation(partitioners={"train": drift.at_round(round)}) for round in range(3)]
        assert [len(rows(fds)) for fds in rounds] == [50] * 3
        clients = LocalSplitPartitioner(IidPartitioner(2), {"train": 0.8, "test": 0.2})
        splits = [federation(partitioners={"train": clients.of(split)}) for split in ("train", "test")]
        assert sorted(chain(*(rows(fds) for fds in splits))) == sorted(rows(federation(partitioners={"train": 2})))


def test_a_federation_whose_rows_are_kept_travels_to_other_processes(folder):
    for _ in range(2):
        fds = federation()
        part = rows(fds)
        there = pickle.loads(pickle.dumps(fds))
        assert rows(there) == part == there.partitioners["train"].load_partition(1)["row"].tolist()


def test_threads_share_a_federation(folder):
    asked, again = [], threading.Event()

    def once(splits):
        asked.append(1)
        if len(asked) > 1:
            again.set()
        again.wait(0.1)  # whoever else comes in, comes in now
        return splits

    fds = federation(preprocessor=once, partitioners={"train": HierarchicalPartitioner(IidPartitioner(2), 4)})
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(partial(rows, fds), range(8)))
    assert len(asked) == 1
    assert sorted(chain(*parts)) == list(range(100))


def test_what_only_a_function_says_once_the_data_is_there_is_not_kept(folder):
    tree = HierarchicalPartitioner(NaturalIdPartitioner("y"), lambda region: IidPartitioner(2))
    rows(federation(partitioners={"train": tree}))
    assert not folder.exists()


def test_data_that_nothing_cheap_identifies_is_not_kept(folder):
    rows(federation(dataset=[{"row": row} for row in range(100)]))
    rows(federation(dataset={"row": np.arange(100), "y": np.array([object()] * 100)}))
    assert not folder.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:10],
        lambda b: b[:60],
        lambda b: b[:-1],
        lambda b: b"x" + b[1:],
        lambda b: b[:8] + b"\xff" * 8 + b[16:],
        lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:],
        lambda b: b[: 24 + 96] + bytes(byte ^ 1 for byte in b[24 + 96 :]),
    ],
)
def test_a_damaged_file_is_computed_again(folder, computed, damage):
    expected = [rows(federation(), number) for number in range(4)]
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert [rows(federation(), number) for number in range(4)] == expected
    assert len(computed) == 2
    assert file.read_bytes() == whole


def test_damage_to_one_part_does_not_concern_the_others(folder, computed):
    expected = rows(federation(), 0)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert rows(federation(), 0) == expected
    assert len(computed) == 1


def test_a_disk_that_takes_nothing_only_costs_time(folder, computed):
    folder.parent.joinpath("indices").write_text("a file where the folder should be")
    assert rows(federation()) == rows(federation())
    assert len(computed) == 2


def test_without_a_home_nothing_is_kept_and_all_is_divided(monkeypatch, computed):
    monkeypatch.setenv("UMBEL_DATA", "~nobody-of-this-name/mine")
    assert rows(federation()) == rows(federation())
    assert len(computed) == 2


def test_what_killed_writers_left_is_removed(folder):
    folder.mkdir()
    left = folder / ".rows.0123456789abcdef"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    rows(federation())
    assert [path.suffix for path in folder.iterdir()] == [".rows"]


def test_the_oldest_make_room(folder, monkeypatch):
    monkeypatch.setattr(index_cache, "_KEPT", 2500)
    for seed in range(8):
        rows(federation(seed=seed))
    assert 1 <= len(list(folder.iterdir())) <= 2


@pytest.mark.parametrize("wrong", [4, -1, "1", 1.0])
def test_a_wrong_number_is_refused_with_and_without_a_file(folder, wrong):
    for _ in range(2):
        with pytest.raises(DataError, match=r"partition_id is"):
            rows(federation(), wrong)
        rows(federation())


def test_an_npz_of_other_content_is_another_source(tmp_path, folder, computed):
    for content in (0, 1):
        np.savez(tmp_path / "rows.npz", row=np.arange(100) + content)
        assert min(chain(*(rows(federation(dataset=tmp_path / "rows.npz"), number) for number in range(4)))) == content
    assert len(computed) == 2


CLIENT = """
import sys, numpy as np
from umbel.datasets import FederatedDataset
for seed in range(10):
    fds = FederatedDataset(dataset=sys.argv[1], partitioners={"train": 4}, seed=seed)
    print(*fds.load_partition(int(sys.argv[2]))["row"])
"""


@pytest.mark.system
def test_clients_of_one_machine_may_all_be_first(tmp_path, folder):
    np.savez(tmp_path / "rows.npz", row=np.arange(1000))
    command = [sys.executable, "-c", CLIENT, str(tmp_path / "rows.npz")]
    clients = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(4)]
    answers = [client.communicate()[0].splitlines() for client in clients]
    assert [client.returncode for client in clients] == [0] * 4
    for seed in range(10):
        assert sorted(int(row) for answer in answers for row in answer[seed].split()) == list(range(1000))
    assert len(list(folder.iterdir())) == 10, "one file per seed, and nothing temporary"
