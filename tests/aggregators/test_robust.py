"""The robust rules: by hand, against plain definitions over whole matrices, and under attack."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.aggregators import (
    Rule,
    bucketed,
    bulyan,
    centered_clipping,
    fltrust,
    geometric_median,
    krum,
    median,
    nearest_neighbours,
    trimmed_mean,
)
from umbel.aggregators.coordinatewise import mean_around_median
from umbel.aggregators.coordinatewise import median as median_of_rows
from umbel.aggregators.coordinatewise import trimmed_mean as trimmed_mean_of_rows
from umbel.aggregators.gram import TILE, gram
from umbel.aggregators.network import order
from umbel.errors import TooFewUpdates
from umbel.fold import Contribution, Memory, combine, in_memory, stepped_schema
from umbel.optimizers import sgd
from umbel.params import Params
from umbel.rng import frozen_stream

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def combined(rule, updates, *, base=None, weights=None, guide=None, memory=None, seed=0, spread=map):
    """What `rule` makes of the updates, each a list of arrays or one array."""
    lists = [update if isinstance(update, list) else [update] for update in updates]
    params = [Params.of(arrays) for arrays in lists]
    model = Params.of([np.zeros_like(a) for a in lists[0]] if base is None else base if isinstance(base, list) else [base])
    schema = stepped_schema(model.schema, [p.schema for p in params])
    weights = weights or [1] * len(params)
    own = None if guide is None else Params.of([guide])
    blocks = combine(
        schema,
        (model.schema, in_memory(model)),
        [Contribution(i, p.schema, in_memory(p), w) for i, (p, w) in enumerate(zip(params, weights, strict=True))],
        aggregator=rule,
        optimizer=sgd(),
        chunk=1,
        rng=lambda: frozen_stream(seed, "mix", 1),
        memory=memory,
        guide=None if own is None else Contribution(len(params), own.schema, in_memory(own), 0),
        spread=spread,
    )
    arrays = Params(schema, np.frombuffer(b"".join(bytes(block) for block in blocks), np.uint8)).arrays()
    return arrays if isinstance(updates[0], list) else arrays[0]


def cohort(count=11, size=50, dtype="float64", seed=0, spread=1.0):
    rng = np.random.RandomState(seed)
    return [(1 + spread * rng.standard_normal(size)).astype(dtype) for _ in range(count)]


# ---- sorting networks


@pytest.mark.parametrize("count", range(1, 10))
def test_a_network_that_sorts_every_row_of_zeros_and_ones_sorts_everything(count):
    """The 0-1 principle (Knuth, theorem 5.3.4Z)."""
    columns = np.array(list(itertools.product([0, 1], repeat=count))).T
    rows = order(columns.copy(), 0, count)
    assert np.array_equal(rows, np.sort(columns, axis=0))


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 70), st.data())
def test_any_ranks_of_any_number_of_rows(count, data):
    low = data.draw(st.integers(0, count - 1))
    high = data.draw(st.integers(low + 1, count))
    values = np.random.RandomState(count).standard_normal((count, 30))
    wanted = np.sort(values, axis=0)[low:high]
    assert np.array_equal(order(values.copy(), low, high), wanted)
    unsorted = order(values.copy(), low, high, sort=False)
    assert np.array_equal(np.sort(unsorted, axis=0), wanted)


# ---- one coordinate at a time


@pytest.mark.parametrize("count", [1, 2, 3, 4, 20, 21])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", BFLOAT16])
def test_the_median_is_numpy_s(count, dtype):
    updates = cohort(count, dtype=dtype)
    wide = np.median([u.astype(np.float64) for u in updates], axis=0)
    result = combined(median(), updates)
    assert result.dtype == updates[0].dtype
    assert np.array_equal(result, wide.astype(dtype))


def test_the_median_of_integers_is_exact_at_both_ends_of_the_range():
    rows = [np.array([2**63 - 1, 0, -(2**63), 3]), np.array([2**63 - 3, 1, -(2**63), 6])]
    assert median_of_rows(rows).tolist() == [2**63 - 2, 0, -(2**63), 4]  # 0.5 and 4.5: half to even
    wide = [np.array([2**64 - 1], "uint64"), np.array([2**64 - 2], "uint64")]
    assert median_of_rows(wide).tolist() == [2**64 - 2]


def test_the_median_of_booleans_is_the_middle_vote():
    rows = [np.array(votes) for votes in ([True, False, True], [True, False, False], [False, True, True])]
    assert median_of_rows([row.copy() for row in rows]).tolist() == [True, False, True]
    assert median_of_rows(rows[:2]).tolist() == [True, False, False]


def test_large_floats_have_a_median_without_overflow():
    assert median_of_rows([np.array([3e38], "float32"), np.array([3.2e38], "float32")]).tolist() == [np.float32(3.1e38)]


@pytest.mark.parametrize(("count", "cut"), [(1, 0), (5, 0), (5, 2), (20, 4), (7, 3)])
def test_the_trimmed_mean_is_the_mean_of_the_middle(count, cut):
    rows = np.array(cohort(count))
    wanted = np.sort(rows, axis=0)[cut : count - cut].mean(axis=0)
    assert np.allclose(trimmed_mean_of_rows(list(rows.copy()), cut), wanted, rtol=1e-14)


def test_the_trimmed_mean_cuts_the_same_number_as_flwr():
    rows = [np.array([float(x)]) for x in (0, 1, 2, 3, 400)]
    assert combined(trimmed_mean(0.2), rows).tolist() == [2.0]
    assert combined(trimmed_mean(0.39), rows).tolist() == [2.0]  # ⌊1.95⌋ is 1
    assert combined(trimmed_mean(0.4), rows).tolist() == [2.0]


def test_the_trimmed_mean_of_integers_is_exact():
    big = 2**62 + 1
    assert trimmed_mean_of_rows([np.array([x]) for x in (-(2**63), big, big, 2**63 - 1)], 1).tolist() == [big]


@pytest.mark.parametrize(("count", "near"), [(3, 1), (7, 3), (8, 3), (12, 4), (12, 12)])
def test_the_mean_around_the_median_is_that_of_the_nearest_values(count, near):
    rows = np.array(cohort(count, seed=count))
    middle = np.median(rows, axis=0)
    nearest = np.argsort(np.abs(rows - middle), axis=0)[:near]
    wanted = np.take_along_axis(rows, nearest, axis=0).mean(axis=0)
    assert np.allclose(mean_around_median(list(rows.copy()), near), wanted, rtol=1e-12)


# ---- plans


def test_inner_products_are_those_of_the_rows():
    rows = np.random.RandomState(0).standard_normal((50, 3 * TILE))
    assert np.allclose(gram(rows), rows @ rows.T, rtol=1e-12)


def krum_by_hand(updates, f, keep=1):
    x = np.array(updates, np.float64)
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    scores = [np.sort(np.delete(row, i))[: len(x) - f - 2].sum() for i, row in enumerate(squares)]
    return np.argsort(scores, kind="stable")[:keep]


@pytest.mark.parametrize(("count", "f"), [(3, 0), (5, 1), (11, 2), (20, 4)])
def test_krum_returns_the_winner_s_very_update(count, f):
    updates = cohort(count, dtype="float32", seed=count)
    assert combined(krum(f), updates).tobytes() == updates[krum_by_hand(updates, f)[0]].tobytes()


def test_multi_krum_averages_the_best():
    updates = cohort(11)
    best = krum_by_hand(updates, 2, 5)
    assert np.allclose(combined(krum(2, 5), updates), np.mean([updates[i] for i in best], axis=0), rtol=1e-14)
    assert np.allclose(
        combined(krum(2, None), updates), np.mean([updates[i] for i in krum_by_hand(updates, 2, 9)], axis=0), rtol=1e-14
    )


def test_krum_takes_the_lower_task_of_two_equal_ones():
    twins = [np.array([0.0]), np.array([1.0]), np.array([1.0]), np.array([0.0])]
    assert combined(krum(0), twins).tolist() == [0.0]
    assert combined(krum(0), twins[1:] + twins[:1]).tolist() == [1.0]


def test_bulyan_selects_by_krum_and_averages_around_the_median():
    updates, f = cohort(11, seed=3), 2
    left, chosen = list(range(11)), []
    for _ in range(11 - 2 * f):
        x = np.array([updates[i] for i in left])
        squares = ((x[:, None] - x[None]) ** 2).sum(axis=2)
        near = max(len(x) - f - 2, 1)
        scores = [np.sort(np.delete(row, i))[:near].sum() for i, row in enumerate(squares)]
        chosen.append(left.pop(int(np.argmin(scores))))
    selected = np.array([updates[i] for i in chosen])
    nearest = np.argsort(np.abs(selected - np.median(selected, axis=0)), axis=0)[: 11 - 4 * f]
    wanted = np.take_along_axis(selected, nearest, axis=0).mean(axis=0)
    assert np.allclose(combined(bulyan(f), updates), wanted, rtol=1e-12)


def test_the_geometric_median_minimises_the_sum_of_distances():
    updates = cohort(9, size=4)
    found = combined(geometric_median(1000), updates)

    def cost(point):
        return sum(np.linalg.norm(u - point) for u in updates)

    rng = np.random.RandomState(0)
    assert all(cost(found) <= cost(found + 1e-3 * rng.standard_normal(4)) for _ in range(200))


def test_the_geometric_median_of_three_points_on_a_line_is_the_middle_one():
    points = [np.array([0.0]), np.array([1.0]), np.array([10.0])]
    assert combined(geometric_median(200, 1e-9), points) == pytest.approx([1.0], abs=1e-6)


def test_the_geometric_median_can_weigh_by_examples_as_in_the_paper():
    points = [np.array([0.0]), np.array([1.0]), np.array([10.0])]
    assert combined(geometric_median(200, by_examples=True), points, weights=[1, 1, 5]) == pytest.approx([10.0], abs=1e-3)


@pytest.mark.parametrize("lazy", [1, 5])
def test_clients_that_change_nothing_do_not_hold_the_geometric_median_fast(lazy):
    honest = cohort(11, spread=0.1)
    updates = [*honest, *([np.zeros(50)] * lazy)]
    assert np.allclose(combined(geometric_median(3), updates), combined(geometric_median(500), updates), atol=0.01)
    assert np.linalg.norm(combined(geometric_median(3), updates) - np.mean(honest, axis=0)) < 0.6


@pytest.mark.parametrize("away", [1e30, 1e200])
def test_the_geometric_median_starts_near_most_updates_whatever_the_others_are(away):
    honest = cohort(6, spread=0.1)
    near = combined(geometric_median(3), [*honest, *([np.full(50, away)] * 3)])
    assert np.linalg.norm(near - np.mean(honest, axis=0)) < 0.6
    assert np.allclose(combined(geometric_median(1), [honest[0], np.full(50, 1e200)]), honest[0])
    assert combined(geometric_median(3), [np.full(50, 1e200)] * 2).tolist() == [0.0] * 50


def clipped_by_hand(updates, base, centre, radius, iterations):
    x, v = np.array(updates) - base, centre
    for _ in range(iterations):
        away = x - v
        v = v + (away * np.minimum(1, radius / np.linalg.norm(away, axis=1))[:, None]).mean(axis=0)
    return base + v


@pytest.mark.parametrize("iterations", [1, 3])
def test_centered_clipping_goes_at_most_the_radius_from_the_last_result(iterations):
    updates = cohort(7)
    base, slots = np.ones(50), {}
    memory = in_a_dict(slots)
    first = combined(centered_clipping(1.5, iterations), updates, base=base, memory=memory)
    assert np.allclose(first, clipped_by_hand(updates, base, np.zeros(50), 1.5, iterations), rtol=1e-12)
    again = cohort(7, seed=1)
    second = combined(centered_clipping(1.5, iterations), again, base=first, memory=memory)
    assert np.allclose(second, clipped_by_hand(again, first, first - base, 1.5, iterations), rtol=1e-12)


def in_a_dict(slots):
    """A memory over a dict of `Params`."""

    class Sink:
        def __init__(self, name, schema):
            self.name, self.schema, self.data = name, schema, bytearray()

        def write(self, data):
            self.data += data

        def commit(self):
            slots[self.name] = Params(self.schema, np.frombuffer(bytes(self.data), np.uint8))

        def abort(self):
            pass

    def read(name):
        return (slots[name].schema, in_memory(slots[name])) if name in slots else None

    return Memory(read, Sink)


def test_fltrust_weighs_by_angle_and_scales_to_the_server_s_update():
    base, own = np.array([1.0, 1.0]), np.array([1.0, 3.0])  # g₀ = (0, 2)
    updates = [np.array([1.0, 11.0]), np.array([2.0, 2.0]), np.array([1.0, -5.0])]  # cos = 1, √½, -1
    trust = np.array([1.0, np.sqrt(0.5)])
    directions = np.array([[0.0, 1.0], [np.sqrt(0.5), np.sqrt(0.5)]])
    wanted = base + 2 * (trust[:, None] * directions).sum(axis=0) / trust.sum()
    assert np.allclose(combined(fltrust(), updates, base=base, guide=own), wanted)


def test_fltrust_keeps_the_model_where_nobody_is_trusted():
    base = np.array([1.0, 2.0], "float32")
    against = [base - 1, base - 2]
    assert combined(fltrust(), against, base=base, guide=base + 1).tolist() == base.tolist()


def test_buckets_are_means_of_a_random_division_and_the_rest_is_a_smaller_one():
    updates = cohort(7)
    shuffled = frozen_stream(5, "mix", 1).permutation(7)
    means = [np.mean([updates[i] for i in shuffled[s : s + 3]], axis=0) for s in (0, 3, 6)]
    assert np.allclose(combined(bucketed(median(), 3), updates, seed=5), np.median(means, axis=0), rtol=1e-13)
    other = combined(bucketed(median(), 3), updates, seed=6)
    assert not np.array_equal(other, combined(bucketed(median(), 3), updates, seed=5))


def test_a_bucket_of_one_changes_nothing():
    updates = cohort(9, dtype="float32")
    for rule in (median(), geometric_median(), trimmed_mean(0.2)):
        assert np.allclose(combined(bucketed(rule, 1), updates), combined(rule, updates), rtol=1e-6)


def test_each_update_is_mixed_with_its_nearest_neighbours():
    updates, f = cohort(7), 2
    x = np.array(updates)
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    mixed = [x[np.argsort(row)[: 7 - f]].mean(axis=0) for row in squares]
    assert np.allclose(combined(nearest_neighbours(median(), f), updates), np.median(mixed, axis=0), rtol=1e-12)
    chosen = mixed[krum_by_hand(mixed, f)[0]]
    assert np.allclose(combined(nearest_neighbours(krum(f), f), updates), chosen, rtol=1e-12)


def test_mixing_before_centered_clipping_keeps_its_centre():
    slots = {}
    rule = bucketed(centered_clipping(0.5), 2)
    first = combined(rule, cohort(8), memory=in_a_dict(slots))
    assert np.allclose(slots["centre"].arrays()[0], first)
    combined(rule, cohort(8, seed=1), base=first, memory=in_a_dict(slots))


# ---- what every rule promises

RULES = {
    "median": median(),
    "trimmed mean": trimmed_mean(0.2),
    "Krum": krum(2),
    "Multi-Krum": krum(2, 5),
    "Bulyan": bulyan(2),
    "geometric median": geometric_median(16),
    "centered clipping": centered_clipping(1.0, 3),
    "buckets": bucketed(median(), 2),
    "mixed": nearest_neighbours(trimmed_mean(0.2), 2),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


@every_rule
def test_equal_updates_come_back(rule):
    update = cohort(1, dtype="float32")[0]
    assert np.allclose(combined(rule, [update] * 11, base=update - 0.1), update, rtol=1e-6)


@every_rule
def test_two_attackers_of_eleven_do_not_get_far(rule):
    honest = cohort(9, dtype="float64", spread=0.1)
    centre, reach = np.mean(honest, axis=0), max(np.linalg.norm(h - np.mean(honest, axis=0)) for h in honest)
    for attack in (1e30, -1e30, 1e3, -1.0):
        for places in ((0, 1), (3, 10)):
            updates = list(honest)
            for place in places:
                updates.insert(place, np.full(50, attack))
            result = combined(rule, updates, base=np.ones(50))
            assert np.linalg.norm(result - centre) < 4 * reach


@every_rule
def test_updates_too_long_for_float64_are_far_from_all_others(rule):
    honest = cohort(9, spread=0.1)
    result = combined(rule, [*honest, np.full(50, 1.7e308), np.full(50, -1.7e308)], base=np.ones(50))
    assert np.linalg.norm(result - 1) < 2


@every_rule
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", BFLOAT16])
def test_the_model_s_dtype_stays(rule, dtype):
    assert combined(rule, cohort(11, dtype=dtype, spread=0.1)).dtype == np.dtype(dtype)


@every_rule
def test_integers_and_booleans_travel_with_the_floats_and_do_not_count_in_distances(rule):
    floats = cohort(11, spread=0.1)
    counters = [np.array([7, 10**6 * i], "int64") for i in range(11)]
    flags = [np.array([True, i < 3]) for i in range(11)]
    base = [np.ones(50), np.array([7, 0]), np.array([True, False])]
    with_them = combined(rule, [[f, c, b] for f, c, b in zip(floats, counters, flags, strict=True)], base=base)
    assert [a.dtype.name for a in with_them] == ["float64", "int64", "bool"]
    assert np.array_equal(with_them[0], combined(rule, floats, base=base[0]))
    assert with_them[1][0] == 7
    assert with_them[2][0]


def test_a_model_without_floats_is_compared_by_its_integers():
    updates = [np.array([i]) for i in (10**9, 1, 2, 1, 2)]
    assert combined(krum(1), updates).tolist() in ([1], [2])


@every_rule
def test_neither_claimed_examples_nor_the_order_of_tasks_matter(rule):
    updates = cohort(12, dtype="float64")
    assert np.array_equal(combined(rule, updates), combined(rule, updates, weights=[10**9, *[1] * 11]))
    # Who shares a bucket depends on the number of the task. Two updates that are each other's nearest neighbours have one
    # score where Bulyan's last elections look at one neighbour, and the lower task wins.
    if "buckets" not in rule.name and "Bulyan" not in rule.name:
        assert np.allclose(combined(rule, updates), combined(rule, updates[::-1]), rtol=1e-9)


@every_rule
def test_blocks_and_who_computes_them_change_no_bit(rule, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr("umbel.fold.ruling.RULE_BYTES", 1)  # blocks of 1024
    updates = cohort(11, size=5000, dtype="float32")
    with ThreadPoolExecutor(4) as pool:
        assert np.array_equal(combined(rule, updates), combined(rule, updates, spread=pool.map))


def test_the_number_of_blas_threads_changes_no_bit():
    program = (
        "import numpy as np, sys\n"
        "from umbel.aggregators.gram import gram\nfrom umbel.aggregators.mixing import mixed\n"
        "rows = np.random.RandomState(0).standard_normal((100, 65536))\n"
        "print(gram(rows).tobytes().hex()[:100000])\n"
        "print(mixed(np.full((100, 100), 0.01), rows, None, None)[3].tobytes().hex()[:10000])\n"
    )
    said = set()
    for threads in ("1", "2", "4"):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        said.add(subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout)
    assert len(said) == 1


# ---- what is refused


@pytest.mark.parametrize(
    ("rule", "count", "text"),
    [
        (krum(2), 6, r"Krum with f=2 needs 2·f \+ 3, which is 7 updates at least; there are 6"),
        (bulyan(1), 6, r"Bulyan with f=1 needs 4·f \+ 3, which is 7 updates at least; there are 6"),
        (bucketed(krum(1), 2), 8, "9 updates at least"),  # 4 buckets, where Krum needs 5
        (nearest_neighbours(median(), 3), 6, "7 updates at least"),
    ],
)
def test_too_few_updates_are_refused(rule, count, text):
    with pytest.raises(TooFewUpdates, match=text):
        combined(rule, cohort(count))


@pytest.mark.parametrize(
    "make",
    [
        lambda: trimmed_mean(0.5),
        lambda: trimmed_mean(-0.1),
        lambda: krum(-1),
        lambda: krum(1, 0),
        lambda: bulyan(-1),
        lambda: geometric_median(0),
        lambda: geometric_median(3, 0.0),
        lambda: centered_clipping(0.0),
        lambda: centered_clipping(1.0, 0),
        lambda: bucketed(median(), 0),
        lambda: nearest_neighbours(median(), -1),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match=r"=|must|holds|part"):
        make()


def test_a_rule_of_one_s_own_is_a_reduction():
    rule = Rule("the midrange", 1, "an update", reduce=lambda rows: (np.max(rows, axis=0) + np.min(rows, axis=0)) / 2)
    assert combined(rule, [np.array([x]) for x in (0.0, 1.0, 8.0)]).tolist() == [4.0]
