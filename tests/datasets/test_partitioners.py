"""Every partitioner: no row twice, none lost that should be there, the same for everybody, of the sizes that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel import datasets as federated
from umbel.datasets import partition
from umbel.datasets.tables import ArrayTable
from umbel.datasets.view import View
from umbel.errors import DataError

seeds = st.integers(-(2**70), 2**70)
label_columns = st.lists(st.integers(0, 5), min_size=12, max_size=150).map(np.array)
partitions = st.integers(1, 12)


def rows_of(parts):
    return np.concatenate([*parts, np.empty(0, np.int64)]).tolist()


def assert_complete(parts, size):
    assert sorted(rows_of(parts)) == list(range(size))


def assert_disjoint(parts, size):
    rows = rows_of(parts)
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(size))


def same(one, other):
    return [part.tolist() for part in one] == [part.tolist() for part in other]


@given(labels=label_columns, number=partitions, alpha=st.floats(0.01, 100), balanced=st.booleans(), seed=seeds)
def test_dirichlet(labels, number, alpha, balanced, seed):
    def asked():
        return partition.dirichlet(
            labels, num_partitions=number, alpha=alpha, min_partition_size=0, self_balancing=balanced, seed=seed
        )

    assert_complete(asked(), len(labels))
    assert len(asked()) == number
    assert same(asked(), asked())


@given(labels=label_columns, number=st.integers(1, 3), seed=seeds)
def test_dirichlet_keeps_its_minimum(labels, number, seed):
    parts = partition.dirichlet(labels, num_partitions=number, alpha=1000.0, min_partition_size=1, seed=seed)
    assert min(map(len, parts)) >= 1


@given(
    labels=label_columns, shares=st.lists(st.floats(0, 1), min_size=1, max_size=8), alpha=st.floats(0.01, 100), seed=seeds
)
def test_inner_dirichlet(labels, shares, alpha, seed):
    sizes = [int(share * len(labels) / len(shares)) for share in shares]

    def asked():
        return partition.inner_dirichlet(labels, partition_sizes=sizes, alpha=alpha, seed=seed)

    assert_disjoint(asked(), len(labels))
    assert [len(part) for part in asked()] == sizes
    assert same(asked(), asked())


@given(labels=label_columns, seed=seeds)
def test_inner_dirichlet_can_use_up_every_class(labels, seed):
    sizes = [len(labels) // 2, len(labels) - len(labels) // 2]
    assert_complete(partition.inner_dirichlet(labels, partition_sizes=sizes, alpha=0.05, seed=seed), len(labels))


@given(number=partitions, each=st.integers(1, 4), mode=st.sampled_from(["random", "deterministic", "first-deterministic"]))
def test_pathological_partitions_have_so_many_labels_exactly(number, each, mode):
    labels = np.arange(120) % 4
    partitioner = given_data(federated.PathologicalPartitioner(number, "label", each, mode), label=labels)
    parts = partitioner.indices
    assert_disjoint(parts, len(labels))
    assert [len(set(labels[part])) for part in parts] == [each] * number
    if mode != "random" and number >= 4:
        assert_complete(parts, len(labels))
    for label in range(4):  # a class is divided evenly
        sizes = [count for part in parts if (count := int((labels[part] == label).sum()))]
        assert not sizes or max(sizes) - min(sizes) <= 1


@given(labels=label_columns, number=st.integers(1, 6), each=st.integers(1, 2), seed=seeds)
def test_so_many_shards_each(labels, number, each, seed):
    parts = partition.shards(labels, num_partitions=number, num_shards_per_partition=each, seed=seed)
    assert_disjoint(parts, len(labels))
    assert [len(part) for part in parts] == [len(labels) // (number * each) * each] * number


@given(labels=label_columns, number=st.integers(1, 4), size=st.integers(1, 3), seed=seeds)
def test_shards_of_a_size_are_all_dealt(labels, number, size, seed):
    parts = partition.shards(labels, num_partitions=number, shard_size=size, keep_incomplete_shard=True, seed=seed)
    assert_complete(parts, len(labels))
    whole = partition.shards(labels, num_partitions=number, shard_size=size, seed=seed)
    assert len(rows_of(whole)) == len(labels) // size * size
    shards = [len(part) // size for part in whole]
    assert max(shards) - min(shards) <= 1


@given(rescale=st.booleans(), each=st.integers(1, 4), columns=st.integers(1, 3), seed=seeds, data=st.data())
def test_distribution(rescale, each, columns, seed, data):
    labels = np.arange(240) % 4
    number = 4 * columns
    table = data.draw(
        st.lists(st.lists(st.integers(1, 5), min_size=each * columns, max_size=each * columns), min_size=4, max_size=4)
    )
    parts = partition.distribution(
        labels,
        distribution_array=table,
        num_partitions=number,
        num_unique_labels_per_partition=each,
        preassigned_num_samples_per_label=2,
        rescale=rescale,
        seed=seed,
    )
    if rescale:
        assert_complete(parts, 240)
        assert (
            min(
                int((labels[part] == (number_ + step) % 4).sum())
                for number_, part in enumerate(parts)
                for step in range(each)
            )
            >= 2
        )
    else:
        assert_disjoint(parts, 240)
        for label in range(4):
            held = [int((labels[part] == label).sum()) for part in parts]
            assert [size for size in held if size] == table[label]


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=100),
    number=partitions,
    strictness=st.floats(0, 1),
    seed=seeds,
)
def test_continuous(values, number, strictness, seed):
    values = np.array([*values, -2e6])
    parts = partition.continuous(values, num_partitions=number, strictness=strictness, seed=seed)
    assert_complete(parts, len(values))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if strictness == 1:
        ranked = values[np.concatenate(parts)]
        assert (np.diff(ranked) >= -1e-6 * 2e6).all()


def test_times_that_are_close_to_each_other_have_an_order():
    times = 1.7e9 + 1e-4 * np.array([3, 0, 2, 1])
    parts = partition.continuous(times, num_partitions=2, strictness=1.0)
    assert [part.tolist() for part in parts] == [[1, 3], [2, 0]]


@given(ids=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), size=st.integers(1, 9), ascending=st.booleans())
def test_natural_clients_keep_their_rows_and_groups_keep_their_clients(ids, size, ascending):
    ids = np.array(ids)
    parts = partition.natural(ids)
    assert_complete(parts, len(ids))
    assert [sorted(set(ids[part].tolist())) for part in parts] == [[one] for one in sorted(set(ids.tolist()))]
    groups = partition.groups_of(ids, group_size=size, mode=partition.Remainder.ALLOW_SMALLER, sort_unique_ids=ascending)
    grouped = partition.grouped(ids, groups)
    assert_complete(grouped, len(ids))
    assert all(len(set(ids[part].tolist())) == size for part in grouped[:-1])


@given(
    ids=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60),
    size=st.integers(1, 9),
    mode=st.sampled_from(partition.Remainder),
    ascending=st.booleans(),
)
def test_groups_have_the_sizes_that_their_mode_says(ids, size, mode, ascending):
    ids = np.array(ids)
    count = len(set(ids.tolist()))
    partitioner = federated.GroupedNaturalIdPartitioner("who", size, mode.value, ascending)
    given_data(partitioner, who=ids)
    try:
        groups = partitioner.partition_id_to_natural_ids
    except DataError:
        assert (mode.value != "allow-smaller" and count < size) or (mode.value == "strict" and count % size)
        return
    lengths = [len(group) for group in groups.values()]
    match mode.value:
        case "allow-smaller":
            assert lengths == [size] * (count // size) + [count % size] * (count % size > 0)
        case "allow-bigger":
            assert (min(lengths) >= size, sum(lengths), max(lengths) - min(lengths) <= 1) == (True, count, True)
        case _:
            assert lengths == [size] * (count // size)
    listed = [one for group in groups.values() for one in group]
    assert listed == (sorted(set(ids.tolist())) if ascending else list(dict.fromkeys(ids.tolist())))[: len(listed)]
    assert_disjoint(partitioner.indices, len(ids))
    for number, part in enumerate(partitioner.indices):
        assert set(ids[part].tolist()) == set(groups[number])
        assert len(part) == sum((ids == one).sum() for one in groups[number]), "all rows of each id"
        assert all(partitioner.natural_id_to_partition_id[one] == number for one in groups[number])


GROWING = {
    "Linear": lambda number: np.arange(1, number + 1),
    "Square": lambda number: np.arange(1, number + 1) ** 2,
    "Exponential": lambda number: np.exp(np.arange(1, number + 1)),
    "IdToSizeFnc": lambda number: np.sqrt(np.arange(1, number + 1)),
}


@given(kind=st.sampled_from(sorted(GROWING)), size=st.integers(1, 5000), number=partitions)
def test_sizes_grow_as_their_name_says(kind, size, number):
    make = getattr(federated, f"{kind}Partitioner")
    partitioner = make(number, np.sqrt) if kind == "IdToSizeFnc" else make(number)
    given_data(partitioner, label=np.zeros(size))
    due = GROWING[kind](number) / GROWING[kind](number).sum() * size
    if due.min() < 1 - 1e-9:
        with pytest.raises(DataError, match="would be empty"):
            partitioner.indices  # noqa: B018
        return
    parts = partitioner.indices
    assert rows_of(parts) == list(range(size))
    lengths = np.array([len(part) for part in parts])
    assert (np.abs(lengths - due)[:-1] <= 1 + 1e-9).all()
    assert -1e-9 <= lengths[-1] - due[-1] <= number, "the last takes what is over"


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20), over=st.integers(0, 10))
def test_given_sizes_are_the_sizes(sizes, over):
    parts = given_data(federated.SizePartitioner(sizes), label=np.zeros(sum(sizes) + over)).indices
    assert [len(part) for part in parts] == sizes
    assert rows_of(parts) == list(range(sum(sizes)))


@given(
    number=st.integers(1, 8),
    columns=st.integers(8, 20),
    mode=st.sampled_from(["add_to_first", "add_to_last", "create_as_first", "create_as_last", "add_to_all", 0]),
    shuffle=st.booleans(),
    seed=seeds,
)
def test_vertical_partitions_have_each_column_once_and_all_rows(number, columns, mode, shuffle, seed):
    names = [f"c{one}" for one in range(columns)]
    data = {name: np.full(3, place) for place, name in enumerate(names)}

    def asked(partitioner):
        return given_data(partitioner, label=np.arange(3), spare=np.arange(3), **data)

    roles = ["label", mode, ["spare", "row"], None, shuffle, seed]
    even = asked(federated.VerticalEvenPartitioner(number, *roles))
    sizes = [columns // number] * (number - 1) + [columns - columns // number * (number - 1)]
    sized = asked(federated.VerticalSizePartitioner(sizes, *roles))
    shares = asked(federated.VerticalSizePartitioner([1.0 / number] * number, *roles))
    for partitioner in (even, sized, shares):
        parts = [partitioner.load_partition(part) for part in range(partitioner.num_partitions)]
        held = [name for part in parts for name in part.column_names if name != "label"]
        assert sorted(held) == sorted(names)
        assert shuffle or held == names
        assert sum("label" in part.column_names for part in parts) == (number if mode == "add_to_all" else 1)
        assert len(parts) == number + str(mode).startswith("create")
        assert {len(part) for part in parts} == {3}
    lengths = [sum(name != "label" for name in part) for part in even.columns]
    lengths = [length for length in lengths if length]
    assert max(lengths) - min(lengths) <= 1
    again = asked(federated.VerticalEvenPartitioner(number, *roles))
    assert again.columns == even.columns


@given(size=st.integers(60, 300), regions=st.integers(1, 4), clients=st.integers(1, 5), seed=seeds)
def test_clients_of_all_regions_are_disjoint_and_complete(size, regions, clients, seed):
    def asked():
        tree = federated.HierarchicalPartitioner(
            federated.ShardPartitioner(regions, "label", shard_size=5, keep_incomplete_shard=True, seed=seed),
            lambda region: federated.DirichletPartitioner(clients, "label", 1.0, 0, seed=seed + region),
        )
        return given_data(tree, label=np.arange(size) % 3)

    tree = asked()
    assert_complete(tree.indices, size)
    assert (tree.num_regions, tree.num_partitions) == (regions, regions * clients)
    for region in range(regions):
        mine = [tree.load_partition(part)["row"] for part in range(tree.num_partitions) if tree.region_of(part) == region]
        assert sorted(np.concatenate(mine).tolist()) == sorted(tree.load_region(region)["row"].tolist())
    assert same(tree.indices, asked().indices)


@given(size=st.integers(12, 3000), number=partitions, scale=st.floats(0.05, 50), least=st.integers(0, 1), seed=seeds)
def test_skewed_sizes_use_all_rows_and_keep_their_minimum(size, number, scale, least, seed):
    for parts in (
        partition.dirichlet_sizes(size, number, alpha=scale, min_partition_size=least, seed=seed),
        partition.lognormal_sizes(size, number, sigma=scale, min_partition_size=least, seed=seed),
    ):
        assert rows_of(parts) == list(range(size))
        assert min(map(len, parts)) >= least


@given(size=st.integers(40, 500), number=st.integers(1, 5), seed=seeds, step=st.integers(0, 10))
def test_drift_moves_its_share_of_the_rows_and_no_row_twice(size, number, seed, step):
    before = partition.even(size, number)
    after = [before[(place + 1) % number] for place in range(number)]
    now = partition.drifted(before, after, step=step, num_steps=10, seed=seed)
    assert_complete(now, size)
    if number > 1:
        moved = sum(len(set(part.tolist()) & set(there.tolist())) for part, there in zip(now, after, strict=True))
        assert moved == size * step // 10


@given(size=st.integers(0, 200), shares=st.lists(st.floats(0, 0.25), min_size=1, max_size=4), seed=seeds)
def test_splits_of_a_client_are_disjoint_and_within_a_row_of_their_share(size, shares, seed):
    splits = partition.divided(np.arange(size), shares, seed=seed)
    assert_disjoint(splits, size)
    assert all(abs(len(split) - share * size) < 1 + 1e-6 for split, share in zip(splits, shares, strict=True))


def given_data(partitioner, **columns):
    size = len(next(iter(columns.values())))
    partitioner.dataset = View(ArrayTable({"row": np.arange(size), **columns}))
    return partitioner


LABELLED = [
    lambda seed: federated.DirichletPartitioner(4, "label", 0.5, seed=seed),
    lambda seed: federated.InnerDirichletPartitioner([50] * 4, "label", 0.5, seed=seed),
    lambda seed: federated.PathologicalPartitioner(4, "label", 2, seed=seed),
    lambda seed: federated.ShardPartitioner(4, "label", 2, seed=seed),
    lambda seed: federated.DistributionPartitioner([[1.0, 2.0]] * 4, 4, 2, "label", 1, seed=seed),
    lambda seed: federated.ContinuousPartitioner(4, "row", 0.5, seed=seed),
    lambda seed: federated.DirichletSizePartitioner(4, seed=seed),
    lambda seed: federated.LogNormalSizePartitioner(4, seed=seed),
    lambda seed: federated.LocalSplitPartitioner(federated.IidPartitioner(4), {"train": 0.5, "test": 0.5}, seed=seed),
]


@pytest.mark.parametrize("make", LABELLED)
def test_a_seed_is_a_partition_and_another_seed_another(make):
    labels = np.arange(400) % 4
    first, second, other = (given_data(make(seed), label=labels).indices for seed in (1, 1, 2))
    assert same(first, second)
    assert not same(first, other)


def test_hugging_face_columns_divide_as_arrays_do():
    datasets = pytest.importorskip("datasets")
    words = [f"w{number % 7}" for number in range(300)]
    rows = datasets.Dataset.from_dict({"row": list(range(300)), "word": words})
    order = np.random.RandomState(0).permutation(300)[:200]
    for make in (
        lambda: federated.NaturalIdPartitioner("word"),
        lambda: federated.GroupedNaturalIdPartitioner("word", 2),
        lambda: federated.DirichletPartitioner(3, "word", 1.0),
    ):
        theirs = make()
        theirs.dataset = rows.select(order)
        ours = make()
        ours.dataset = View(ArrayTable({"row": np.arange(300), "word": np.array(words)})).select(order)
        for number in range(ours.num_partitions):
            assert list(theirs.load_partition(number)["row"]) == ours.load_partition(number)["row"].tolist()


@pytest.mark.parametrize("unit", ["D", "us", "ns"])
def test_days_are_ids_whatever_unit_they_have(unit):
    days = np.array(["2026-01-02", "2026-01-01", "2026-01-02"], f"M8[{unit}]")
    by_day, by_group = federated.NaturalIdPartitioner("day"), federated.GroupedNaturalIdPartitioner("day", 2)
    by_day.dataset = by_group.dataset = View(ArrayTable({"day": days}))
    assert by_day.partition_id_to_natural_id == {0: days[1], 1: days[0]}
    assert by_group.natural_id_to_partition_id[np.datetime64("2026-01-02", unit)] == 0


def test_a_filtered_dataset_has_no_clients_that_were_filtered_away():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"who": ["a", "b", "c", "b"]}).select([1, 3, 0])
    partitioner = federated.NaturalIdPartitioner("who")
    partitioner.dataset = rows
    assert partitioner.partition_id_to_natural_id == {0: "a", 1: "b"}


def test_dirichlet_shares_follow_their_law():
    labels = np.zeros(10_000, np.int64)
    shares = np.array(
        [
            [
                len(part) / 10_000
                for part in partition.dirichlet(labels, num_partitions=4, alpha=0.5, min_partition_size=0, seed=seed)
            ]
            for seed in range(2_000)
        ]
    )
    np.testing.assert_allclose(shares.mean(axis=0), 0.25, atol=0.02)
    np.testing.assert_allclose(shares.var(axis=0), 0.25 * 0.75 / 3, rtol=0.1)


def test_inner_dirichlet_mixes_follow_their_law_where_no_class_runs_out():
    labels = np.arange(30_000) % 3
    first = np.array(
        [
            (
                labels[partition.inner_dirichlet(labels, partition_sizes=[500], alpha=[1.0, 2.0, 3.0], seed=seed)[0]] == 0
            ).mean()
            for seed in range(600)
        ]
    )
    mean = 1 / 6
    assert first.mean() == pytest.approx(mean, abs=0.015)
    assert first.var() == pytest.approx(mean * (1 - mean) / 7, rel=0.15)


def test_random_classes_are_uniform():
    chosen = partition.classes_at_random(20_000, 5, 2, seed=1)
    np.testing.assert_allclose(np.bincount(chosen.ravel()) / 40_000, 0.2, atol=0.01)
    first = partition.first_class_in_turn(20_000, 5, 2, seed=1)
    assert (first[:, 0] == np.arange(20_000) % 5).all()
    offset = (first[:, 1] - first[:, 0]) % 5
    np.testing.assert_allclose(np.bincount(offset, minlength=5)[1:] / 20_000, 0.25, atol=0.015)


def test_balancing_evens_out_the_sizes():
    labels = np.arange(5_000) % 10
    arguments = {"num_partitions": 10, "alpha": 0.1, "min_partition_size": 0, "seed": 3}
    plain, balanced = (
        [len(part) for part in partition.dirichlet(labels, self_balancing=on, **arguments)] for on in (False, True)
    )
    assert np.std(balanced) < np.std(plain)


def test_regions_hold_their_clients():
    tree = federated.HierarchicalPartitioner(
        federated.NaturalIdPartitioner("site"), lambda site: federated.DirichletPartitioner(2, "label", 5.0, 1, seed=site)
    )
    sites = np.arange(300) % 3
    given_data(tree, site=sites, label=np.arange(300) % 2)
    assert tree.num_partitions == 6
    assert tree.num_regions == 3
    assert_complete(tree.indices, 300)
    assert [tree.region_of(number) for number in range(6)] == [0, 0, 1, 1, 2, 2]
    assert all(set(tree.load_partition(number)["site"]) == {tree.region_of(number)} for number in range(6))
    assert len(tree.load_region(2)) == 100


def test_a_drift_by_rounds():
    drift = federated.DriftPartitioner(federated.IidPartitioner(3), federated.NaturalIdPartitioner("label"), num_rounds=4)
    labels = np.arange(90) % 3
    given_data(drift, label=labels)
    assert same(drift.indices, partition.even(90, 3))
    assert [sorted(part.tolist()) for part in drift.at_round(9).indices] == [
        part.tolist() for part in partition.natural(labels)
    ]
    assert_complete(drift.at_round(2).indices, 90)


def test_splits_of_clients():
    parts = federated.LocalSplitPartitioner(federated.IidPartitioner(5), {"train": 0.8, "validation": 0.1, "test": 0.1})
    given_data(parts, label=np.zeros(100))
    for client, rows in enumerate(partition.even(100, 5)):
        split = [parts.of(name).load_partition(client)["row"].tolist() for name in ("train", "validation", "test")]
        assert [len(one) for one in split] == [16, 2, 2]
        assert sorted(row for one in split for row in one) == rows.tolist()


def test_a_client_sees_its_own_shift():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"x": [[1.0, 2.0]] * 400, "label": [0] * 400})
    shifted = federated.FeatureShiftPartitioner(federated.IidPartitioner(2), federated.FeatureNoise("x", 2, sigma=1.0))
    shifted.dataset = rows
    spread = [np.array(shifted.load_partition(number)["x"][:]).std(axis=0) for number in range(2)]
    np.testing.assert_allclose(spread, [[0.5, 0.5], [1.0, 1.0]], rtol=0.2)
    assert list(shifted.load_partition(1)["x"]) == list(shifted.load_partition(1)["x"])
    doubled = federated.FeatureShiftPartitioner(federated.IidPartitioner(2), lambda part, number: (number, len(part)))
    doubled.dataset = rows
    assert doubled.load_partition(1) == (1, 200)
