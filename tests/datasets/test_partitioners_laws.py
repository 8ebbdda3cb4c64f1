"""What is drawn is drawn from the distribution that the partitioner promises."""

from __future__ import annotations

import numpy as np
import pytest

from umbel import datasets as federated
from umbel.datasets import partition
from umbel.datasets.partition.columns import core_columns


def test_dirichlet_sizes_follow_their_law():
    sizes = [
        [len(part) for part in partition.dirichlet_sizes(10_000, 4, alpha=0.5, min_partition_size=0, seed=seed)]
        for seed in range(2_000)
    ]
    shares = np.array(sizes) / 10_000
    np.testing.assert_allclose(shares.mean(axis=0), 0.25, atol=0.02)
    np.testing.assert_allclose(shares.var(axis=0), 0.25 * 0.75 / 3, rtol=0.1)


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_log_normal_sizes_follow_their_law(sigma):
    parts = partition.lognormal_sizes(10**8, 5_000, sigma=sigma, min_partition_size=0, seed=1)
    logs = np.log([len(part) for part in parts])
    assert logs.std() == pytest.approx(sigma, rel=0.03)
    z = np.sort((logs - logs.mean()) / logs.std())
    for quantile, at in {0.025: -1.960, 0.16: -0.994, 0.5: 0.0, 0.84: 0.994, 0.975: 1.960}.items():
        assert np.quantile(z, quantile) == pytest.approx(at, abs=0.1)


def test_any_shard_goes_to_anybody_alike():
    owners = np.zeros((10, 5))
    for seed in range(4_000):
        parts = partition.shards(np.arange(10), num_partitions=5, num_shards_per_partition=2, seed=seed)
        for number, part in enumerate(parts):
            owners[part, number] += 1
    np.testing.assert_allclose(owners / 4_000, 0.2, atol=0.035)  # 5.5 standard deviations


def test_what_is_over_of_a_class_goes_to_any_of_its_partitions_alike():
    labels = np.zeros(10, np.int64)
    lucky = np.zeros(3)
    for seed in range(3_000):
        parts = partition.distribution(
            labels, distribution_array=[[1, 1, 1]], num_partitions=3, num_unique_labels_per_partition=1,
            preassigned_num_samples_per_label=0, seed=seed,
        )  # fmt: skip
        lucky[[len(part) for part in parts].index(4)] += 1
    np.testing.assert_allclose(lucky / 3_000, 1 / 3, atol=0.045)


def test_strictness_mixes_the_rank_with_noise_in_its_proportion():
    values = np.random.RandomState(0).standard_normal(40_000)
    for strictness in (0.0, 0.3, 0.7):
        parts = partition.continuous(values, num_partitions=2, strictness=strictness, seed=1)
        upper = np.zeros(40_000)
        upper[parts[1]] = 1
        # The blend of two normals is normal: its sign agrees with that of z as often as their correlation says.
        correlation = strictness / np.hypot(strictness, 1 - strictness)
        agree = 0.5 + np.arcsin(correlation) / np.pi
        assert np.mean(upper == (values > np.median(values))) == pytest.approx(agree, abs=0.015)


def test_every_row_drifts_in_any_round_alike():
    before, after = [np.arange(20), np.arange(0)], [np.arange(0), np.arange(20)]
    moved = np.zeros(20)
    for seed in range(3_000):
        moved[partition.drifted(before, after, step=3, num_steps=10, seed=seed)[1]] += 1
    np.testing.assert_allclose(moved / 3_000, 0.3, atol=0.045)


def test_any_row_of_a_client_is_in_any_of_its_splits_alike():
    test = np.zeros(20)
    for client in range(3_000):
        test[partition.divided(np.arange(20), [0.8, 0.2], partition_id=client)[1]] += 1
    np.testing.assert_allclose(test / 3_000, 0.2, atol=0.04)


def test_any_column_is_in_any_place_alike():
    names = list("abcde")
    places = np.zeros((5, 5))
    for seed in range(3_000):
        for place, name in enumerate(core_columns(names, active=[], drop=[], shared=[], seed=seed)):
            places[names.index(name), place] += 1
    np.testing.assert_allclose(places / 3_000, 0.2, atol=0.04)


def test_rows_are_mixed_and_shuffled_alike():
    mixed, order = np.zeros((6, 6)), np.zeros((6, 6))
    for seed in range(3_000):
        mixed[partition.mixed([np.arange(6)], seed=seed, scheme="any")[0], np.arange(6)] += 1
        order[partition.shuffled(6, seed=seed, split="train"), np.arange(6)] += 1
    np.testing.assert_allclose(mixed / 3_000, 1 / 6, atol=0.04)
    np.testing.assert_allclose(order / 3_000, 1 / 6, atol=0.04)


def test_feature_noise_is_normal_and_grows_with_the_number_of_the_client():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"x": [[0.0] * 20] * 500})
    for client in (0, 3):
        noise = np.array(federated.FeatureNoise("x", 4, sigma=0.8)(rows, client)["x"][:]).ravel() / (0.2 * (client + 1))
        assert noise.mean() == pytest.approx(0, abs=0.05)
        assert noise.std() == pytest.approx(1, abs=0.04)
        assert np.mean(np.abs(noise) < 1) == pytest.approx(0.6827, abs=0.025)
