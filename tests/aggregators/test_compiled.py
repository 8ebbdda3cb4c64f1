"""What numba compiles gives the bits of numpy, and is loaded only where it pays."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.aggregators import bucketed, bulyan, fold, krum, mean, median, nearest_neighbours, trimmed_mean
from umbel.aggregators.compiled import Gate, gate
from umbel.aggregators.coordinatewise import mean_around_median
from umbel.aggregators.coordinatewise import median as median_of_rows
from umbel.aggregators.coordinatewise import trimmed_mean as trimmed_mean_of_rows
from umbel.fold import Contribution, combine, in_memory, stepped_schema
from umbel.optimizers import sgd
from umbel.params import Params

loops = pytest.importorskip("umbel.aggregators.loops", reason="numba is not installed: pip install 'umbel[compiled]'")

SIZES = st.sampled_from([1, 2, 7, 511, 512, 513, 1100])  # around the 512 that are sorted at a time
FLOATS = st.sampled_from(["float32", "float64"])


@contextmanager
def numpy_s():
    """While inside, the gate is closed."""
    before = gate.worth, gate.loops
    gate.worth, gate.loops = 2**63, None
    try:
        yield
    finally:
        gate.worth, gate.loops = before


@contextmanager
def numba_s():
    """While inside, the gate is open."""
    with numpy_s():
        gate.worth = 0
        gate.loops = loops
        yield


def both(make):
    """What `make` returns with numpy and with numba."""
    with numpy_s():
        plain = make()
    with numba_s():
        return plain, make()


def rows_of(count, size, dtype, seed):
    """Values of every size, with equal ones, zeros of both signs and subnormal ones among them."""
    rng = np.random.default_rng(seed)
    tiny = np.finfo(dtype).smallest_subnormal
    rows = (rng.standard_normal((count, size)) * 10.0 ** rng.integers(-35, 35, (count, size))).astype(dtype)
    kind = rng.integers(0, 8, (count, size))
    for i, value in enumerate((0.0, -0.0, 1.0, tiny)):
        rows[kind == i] = value
    return rows


# ---- the bits


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), SIZES, FLOATS, st.sampled_from([1, 3, 64]), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_mean_has_numpy_s_bits(count, size, dtype, chunk, whole, seed):
    rows = rows_of(count, size, dtype, seed)
    draw = np.random.default_rng(seed)
    weights = [int(w) for w in draw.integers(1, 10**6, count)] if whole else draw.uniform(1e-3, 10, count).tolist()

    def average():
        updates = ((i, row, w) for i, (row, w) in enumerate(zip(rows, weights, strict=True)))
        return fold(mean(), np.dtype(dtype), updates, chunk=chunk).tobytes()

    plain, compiled = both(average)
    assert plain == compiled


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), SIZES, FLOATS, st.data())
def test_sorted_values_have_numpy_s_bits(count, size, dtype, data):
    rows = rows_of(count, size, dtype, data.draw(st.integers(0, 2**32 - 1)))
    cut, near = data.draw(st.integers(0, (count - 1) // 2)), data.draw(st.integers(1, count))
    for reduce in (median_of_rows, lambda r: trimmed_mean_of_rows(r, cut), lambda r: mean_around_median(r, near)):
        plain, compiled = both(lambda reduce=reduce: reduce(rows.copy()))
        assert plain.dtype == compiled.dtype
        assert plain.tobytes() == compiled.tobytes()


def test_a_product_is_rounded_before_it_is_added():
    """One rounding for both, as a fused multiply-add has it, would be seen in these numbers."""
    draw = np.random.default_rng(0)
    values, total, weight = draw.standard_normal(512).astype("float32"), draw.standard_normal(512), 1 / 3
    wanted = total + values.astype(np.float64) * weight
    fused = [float(Fraction(t) + Fraction(float(v)) * Fraction(weight)) for t, v in zip(total, values, strict=True)]
    assert (wanted != fused).sum() > 50
    loops.add(total, values, weight)
    assert total.tobytes() == wanted.tobytes()


def test_sums_are_not_reordered():
    """In the order of the tasks a third of it is lost; in another one it is not."""
    rows = [np.full(600, value, "float32") for value in (1e30, 1.0, -1e30)]
    for dtype in ("float32", "float64"):
        plain, compiled = both(
            lambda dtype=dtype: fold(mean(), np.dtype(dtype), ((i, r, 1) for i, r in enumerate(rows)), chunk=64)
        )
        assert plain.tolist() == compiled.tolist() == [0.0] * 600


@pytest.mark.parametrize("count", [3, 4, 9])
def test_a_zero_has_no_sign_whatever_the_order_of_the_updates(count):
    rows = np.zeros((count, 600), "float32")
    rows[: count // 2] = -0.0
    for reduce in (median_of_rows, lambda r: trimmed_mean_of_rows(r, 1), lambda r: mean_around_median(r, 1)):
        for order in (rows, rows[::-1], -rows):
            for found in both(lambda reduce=reduce, order=order: reduce(order.copy())):
                assert not np.signbit(found).any()


RULES = [
    median(),
    trimmed_mean(0.2),
    bulyan(1),
    krum(2),
    nearest_neighbours(median(), 2),
    bucketed(trimmed_mean(0.2), 2),
    mean(),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: getattr(rule, "name", "mean"))
@pytest.mark.parametrize("threads", [1, 3])
def test_a_whole_step_has_numpy_s_bits(rule, threads, monkeypatch):
    monkeypatch.setattr("umbel.fold.ruling.RULE_BYTES", 1)  # blocks of 1024
    monkeypatch.setattr("umbel.fold.blocks.BLOCK", 700)
    rng = np.random.RandomState(0)
    types = ["float32", "float64", "float16", ml_dtypes.bfloat16, "int32", "bool"]
    models = [
        Params.of([(50 * rng.standard_normal(n)).astype(t) for n, t in zip((5000, 9, 600, 5, 70, 4), types, strict=True)])
        for _ in range(11)
    ]
    schema = stepped_schema(models[0].schema, [model.schema for model in models])

    def step():
        with ThreadPoolExecutor(threads) as pool:
            blocks = combine(
                schema,
                (models[0].schema, in_memory(models[0])),
                [Contribution(i, model.schema, in_memory(model), i + 1) for i, model in enumerate(models)],
                aggregator=rule,
                optimizer=sgd(),
                chunk=1,
                rng=lambda: np.random.RandomState(1),
                spread=pool.map,
            )
            return b"".join(bytes(block) for block in blocks)

    plain, compiled = both(step)
    assert plain == compiled


def test_arrays_that_may_not_be_written_to_and_rows_with_gaps_are_read():
    rows = np.arange(60, dtype="float32").reshape(6, 10)
    rows.flags.writeable = False

    def average(read):
        return fold(mean(), np.dtype("float32"), ((i, row, 2) for i, row in enumerate(read)), chunk=64).tolist()

    for read in (rows, rows[:, 2:7], rows[::2], rows[:, ::3]):
        plain, compiled = both(lambda read=read: average(read))
        assert plain == compiled
        assert both(lambda read=read: median_of_rows(read.copy()).tolist())[1] == np.median(read, axis=0).tolist()


# ---- when it is loaded


def test_the_gate_opens_when_enough_has_been_done():
    small = Gate(worth=100)
    assert small(99) is None
    assert small(1) is loops
    assert small(0) is loops


def test_one_thread_opens_the_gate_and_the_others_find_it_open_or_do_without():
    shared = Gate(worth=1000)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: shared(10), range(2000)))
    assert found <= {None, loops}
    assert shared(0) is loops


def said_by(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SMALL = """
import sys
import numpy as np
from umbel.aggregators import fold, mean
from umbel.aggregators.compiled import gate
from umbel.aggregators.coordinatewise import median
for _ in range(10):
    fold(mean(), np.dtype("float32"), ((i, np.ones(10000, "float32"), 1) for i in range(10)), chunk=1)
    median(np.ones((20, 10000), "float32"))
print("numba" in sys.modules, 0 < gate.steps < gate.worth / 10)
"""


def test_little_work_loads_nothing():
    assert said_by(SMALL) == ["False", "True"]


def test_without_numba_numpy_goes_on():
    without = "import sys; sys.modules['numba'] = None\nfrom umbel.aggregators.compiled import Gate\n"
    assert said_by(without + "g = Gate(1); print(g(5), g(5), g.open())") == ["None", "None", "False"]


def test_numba_that_is_switched_off_is_left_alone():
    switched = "from umbel.aggregators.compiled import Gate\ng = Gate(1); print(g(5), g.open())"
    assert said_by(switched, NUMBA_DISABLE_JIT="1") == ["None", "False"]


KEPT = """
import numpy as np
from umbel.aggregators import loops
loops.add(np.zeros(3), np.ones(3, "float32"), 2.0)
print(sum(loops.add.stats.cache_hits.values()), sum(loops.add.stats.cache_misses.values()))
"""


def test_what_is_compiled_is_kept_on_disk(tmp_path):
    assert said_by(KEPT, NUMBA_CACHE_DIR=str(tmp_path)) == ["0", "1"]
    assert said_by(KEPT, NUMBA_CACHE_DIR=str(tmp_path)) == ["1", "0"]


def test_without_a_folder_to_keep_it_in_it_is_compiled_all_the_same():
    names: dict[str, object] = {}
    exec("def double(a):\n    a[0] *= 2\n", names)  # no file, so nothing beside which or for which to keep it
    doubled = np.ones(1)
    loops._compile(names["double"])(doubled)
    assert doubled.tolist() == [2.0]
