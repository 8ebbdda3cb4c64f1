"""What each transform in the box does to an update, on its way there and back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.errors import Rejected
from umbel.params import Params, schema_of
from umbel.transforms import Site, cast, chain, clip, differences, int8, reader_in, source_of, top_k
from umbel.update import DIFFERENCE, MODEL, Layout, Update

ONE_PLACE = {"seed": 7, "client": "a", "round": 3}
CODECS = {
    "differences": differences(),
    "clip": clip(1e9),
    "fp16": cast("fp16"),
    "bf16": cast("bf16"),
    "int8": int8(block=100),
    "top_k": top_k(0.5),
}


def encoded(transforms, before, after, *, memory=None, **place):
    """What travels, as arrays by name, and what the client remembers."""
    memory = {} if memory is None else memory
    site = lambda link: Site(link.name, link.facts, memory.setdefault(link.name, {}), **{**ONE_PLACE, **place})  # noqa: E731
    update, layout = transforms.encode(Update({MODEL: after}, 1, {}), Params.of(before), site)
    return dict(zip(layout.names, layout.joined(update), strict=True))


def decoded(transforms, before, arrays):
    """The arrays that the server makes of what has travelled."""
    base = Params.of(before)
    wire = transforms.layouts(base.schema)[-1]
    reader = transforms.decode(
        reader_in(wire, list(arrays.values())), reader_in(Layout.of(base.schema), base.arrays()), transforms.facts
    )
    made, source = Params.empty(base.schema), source_of(reader)
    for start in range(0, made.schema.nbytes, 1000 * 8):
        source(start, made.buffer[start : start + 1000 * 8].data)
    return made.arrays()


def there_and_back(link, before, after, **more):
    transforms = chain(link)
    return decoded(transforms, before, encoded(transforms, before, after, **more))


def model(seed=0, kind="float32"):
    rng = np.random.RandomState(seed)
    floats = [rng.normal(size=shape).astype(kind) for shape in ((30, 50), (7,), (), (0, 3), (2500,))]
    return [floats[0], np.array([3, 2**60]), *floats[1:], np.array([True, False])]


def trained(before, seed=1, size=0.01):
    rng = np.random.RandomState(seed)
    moved = [a + (size * rng.normal(size=a.shape)).astype(a.dtype) if a.dtype.kind in "fV" else ~a for a in before]
    return [array.astype(old.dtype) for array, old in zip(moved, before, strict=True)]


def floats(arrays):
    return np.concatenate([a.reshape(-1).astype("float64") for a in arrays if a.dtype.kind in "fV"])


@pytest.mark.parametrize("link", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_names_shapes_and_kinds_come_back_and_integers_and_booleans_with_every_bit(link, kind):
    before = model(kind=kind)
    after = trained(before)
    back = there_and_back(link, before, after)
    assert [(a.dtype, a.shape) for a in back] == [(a.dtype, a.shape) for a in before]
    for made, sent in zip(back, after, strict=True):
        if sent.dtype.kind not in "fV":
            assert np.array_equal(made, sent)
    assert np.linalg.norm(floats(back) - floats(after)) <= np.linalg.norm(floats(before) - floats(after))


@pytest.mark.parametrize("link", CODECS.values(), ids=CODECS)
def test_a_client_that_changed_nothing_changes_nothing(link):
    before = model()
    back = there_and_back(link, before, before)
    assert [a.tobytes() for a in back] == [a.tobytes() for a in before]


@pytest.mark.parametrize("link", CODECS.values(), ids=CODECS)
def test_what_travels_is_what_the_layout_says_and_names_itself(link):
    before = model()
    transforms = chain(link)
    travelled = encoded(transforms, before, trained(before))
    layout = transforms.layouts(schema_of(before))[-1]
    assert schema_of([*travelled.values()], [*travelled]) == layout.schema
    assert all("/" in name for name in travelled)
    with pytest.raises(Rejected, match="The client does not know of them: update its umbel"):
        layout.admit("fit()", schema_of(before))


def test_bytes_on_the_way():
    before = [np.zeros(409_600, "float32")]
    after = trained(before)
    sizes = {name: sum(a.nbytes for a in encoded(chain(link), before, after).values()) for name, link in CODECS.items()}
    thin = sum(a.nbytes for a in encoded(chain(top_k(0.01)), before, after).values())
    whole = sum(a.nbytes for a in encoded(chain(int8()), before, after).values())
    assert sizes["differences"] == 4 * 409_600
    assert sizes["fp16"] == sizes["bf16"] == 2 * 409_600 + 8
    assert whole == 409_600 + 8 * 100
    assert thin == 8 * 4096


# ---- differences


def test_differences_alone_are_the_same_bits_where_training_moves_a_little():
    before = [np.random.RandomState(0).normal(size=10_000).astype("float32") + 5]
    after = trained(before)
    assert there_and_back(differences(), before, after)[0].tobytes() == after[0].tobytes()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([np.zeros(2, "float32")], [np.zeros(3, "float32")], r"array 0 with shape \(3,\), the model has \(2,\)"),
        ([np.zeros(2, "float32")], [np.array([1, np.nan])], "array 0 contains nan; only finite values"),
        ([np.zeros(2, "float32")], [np.array([1, 1e39])], "array 0 contains 1e[+]39; .* whose differences float32"),
        ([np.zeros(2, "int64")], [np.zeros(2)], "array 0 as float64, the model has int64 there, and with a"),
        ([np.zeros(2, "float16")], [np.zeros(2, "float32")], "Return float16, or begin with parameters of float32"),
        ([np.zeros(2, "int8")], [np.array([0, 300])], "numbers that the model's int8 cannot hold"),
    ],
)
def test_what_cannot_travel_is_refused_at_the_client_in_words(before, after, words):
    with pytest.raises(Rejected, match=words):
        encoded(chain(differences()), before, after)


def test_longer_floats_and_integers_for_floats_become_the_models():
    before = [np.ones(2, "float32"), np.ones(2, "int32")]
    back = there_and_back(differences(), before, [np.array([2, 3]), np.array([4, 5], "int64")])
    assert [a.tolist() for a in back] == [[2, 3], [4, 5]]
    assert [a.dtype for a in back] == [np.float32, np.int32]


# ---- clip


def test_clip_is_over_the_whole_update_and_leaves_shorter_ones_alone():
    before = [np.zeros(3, "float32"), np.array([5]), np.zeros(1)]
    far = [np.array([3, 0, 0], "float32"), np.array([9]), np.array([4.0])]
    back = there_and_back(clip(1.0), before, far)
    assert [a.tolist() for a in back] == [pytest.approx([0.6, 0, 0]), [9], pytest.approx([0.8])]
    near = [np.array([0.3, 0, 0], "float32"), np.array([9]), np.array([0.4])]
    assert [a.tolist() for a in there_and_back(clip(1.0), before, near)] == [a.tolist() for a in near]


@pytest.mark.parametrize("codec", [None, cast("fp16"), int8(), top_k(0.5)])
def test_the_server_clips_whatever_a_liar_sends(codec):
    before = [np.zeros(5000, "float32"), np.zeros(3)]
    transforms = chain(clip(1.0), codec)
    honest = encoded(transforms, before, trained(before))
    lies = {name: (array * 0 + 100).astype(array.dtype) for name, array in honest.items()}
    assert np.linalg.norm(floats(decoded(transforms, before, lies))) == pytest.approx(1.0, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(CODECS)))
def test_no_values_whatever_make_the_server_raise_or_a_model_that_is_not_finite(seed, name):
    rng = np.random.RandomState(seed)
    clipped = clip(1.0) if seed % 2 and name != "clip" else None
    before, transforms = model(), chain(clipped, CODECS[name])
    travelled = encoded(transforms, before, trained(before))
    lies = {}
    for part, array in travelled.items():
        info = ml_dtypes.finfo(array.dtype) if array.dtype.kind in "fV" else None
        largest = min(float(info.max), 1e290) if info else 0
        lies[part] = (
            rng.choice([-largest, 0, largest, 1.0], array.shape).astype(array.dtype)
            if info
            else rng.randint(-128, 127, array.shape).astype(array.dtype)
        )
    back = floats(decoded(transforms, before, lies))
    assert np.isfinite(back).all()
    assert clipped is None or np.linalg.norm(back - floats(before)) <= 1.001


# ---- cast


def test_fp16_neither_overflows_nor_flushes_small_differences():
    before = [np.zeros(2, "float32"), np.zeros(2, "float32"), np.zeros(2)]
    after = [np.array([1e-9, -3e-9], "float32"), np.array([3e38, 1e36], "float32"), np.array([1e-300, 0])]
    for made, sent in zip(there_and_back(cast("fp16"), before, after), after, strict=True):
        assert np.allclose(made, sent, rtol=2**-11, atol=0)


@pytest.mark.parametrize(("to", "error"), [("fp16", 2**-11), ("bf16", 2**-8)])
def test_a_cast_is_within_its_rounding(to, error):
    before = [np.zeros(10_000, "float32")]
    after = [np.random.RandomState(0).normal(size=10_000).astype("float32")]
    assert np.allclose(there_and_back(cast(to), before, after)[0], after[0], rtol=error, atol=1e-6)


# ---- int8


def test_int8_is_off_by_less_than_a_scale_and_by_nothing_on_average():
    before = [np.zeros(5000)]
    after = [np.random.RandomState(0).standard_t(3, 5000)]
    rows = np.array([there_and_back(int8(block=1000), before, after, round=number)[0] for number in range(300)])
    scales = np.abs(after[0].reshape(5, 1000)).max(axis=1).repeat(1000) / 127
    assert (np.abs(rows - after[0]) <= scales * (1 + 1e-9)).all()
    error = (rows.mean(axis=0) - after[0]) / scales  # of 300 draws: a standard deviation of 0.029 at most
    assert np.abs(error).max() < 0.16
    assert abs(error.mean()) < 0.002


def test_the_draws_of_int8_have_an_address():
    before, after = model(), trained(model())
    codes = lambda **place: encoded(chain(int8()), before, after, **place)["difference/0"].tobytes()  # noqa: E731
    assert codes() == codes()
    others = [codes(), codes(round=4), codes(client="b"), codes(seed=8), codes(seed=None), codes(seed=None)]
    assert len(set(others)) == len(others)


def test_a_block_of_int8_may_be_longer_than_any_tensor_and_costs_no_memory_then():
    before = [np.zeros(5000, "float32"), np.zeros((), "float32")]
    after = [np.linspace(-1, 1, 5000).astype("float32"), np.ones((), "float32")]
    whole = there_and_back(int8(block=5000), before, after)
    assert there_and_back(int8(block=2**62), before, after)[0].tobytes() == whole[0].tobytes()


# ---- top_k


def test_top_k_takes_the_largest_of_the_whole_update_and_of_equal_ones_the_first():
    before = [np.zeros(3), np.array([1]), np.zeros((2, 2))]
    after = [np.array([1.0, -5, 2]), np.array([7]), np.array([[2.0, 0], [-2, 9]])]
    travelled = encoded(chain(top_k(0.5)), before, after)
    assert travelled["indices/0"].tolist() == [1, 2, 3, 6]
    assert travelled["values/0"].tolist() == [-5, 2, 2, 9]
    back = decoded(chain(top_k(0.5)), before, travelled)
    assert [a.tolist() for a in back] == [[0, -5, 2], [7], [[2, 0], [0, 9]]]


def test_what_top_k_leaves_out_is_sent_later_and_nothing_is_lost():
    before, memory = [np.zeros(6, "float32")], {}
    after = [np.array([4, 0, 1.5, -1, 0, 0.25], "float32")]
    sent = np.zeros(6)
    for _ in range(40):
        sent += decoded(chain(top_k(0.1)), before, encoded(chain(top_k(0.1)), before, after, memory=memory))[0]
        left = memory["top_k"]["left"]
        assert left.dtype == np.float32
    assert np.array_equal(sent + left, 40 * after[0].astype("float64"))
    assert np.linalg.norm(left) < 15


def test_a_memory_of_another_model_is_begun_anew():
    memory = {"top_k": {"left": np.ones(9, "float32")}}
    encoded(chain(top_k(0.5)), [np.zeros(4, "float32")], [np.ones(4, "float32")], memory=memory)
    assert memory["top_k"]["left"].tolist() == [0, 0, 1, 1]


def test_top_k_of_a_large_update_reads_the_part_that_a_block_needs():
    before = [np.zeros(300_000, "float32"), np.zeros(100, "float32")]
    after = trained(before)
    travelled = encoded(chain(top_k(0.2)), before, after)
    dense = np.zeros(300_100, "float32")
    dense[travelled["indices/0"]] = travelled["values/0"]
    assert len(travelled["indices/0"]) == 60_020
    assert np.array_equal(floats(decoded(chain(top_k(0.2)), before, travelled)), dense)
    layout = chain(top_k(0.2)).layouts(schema_of(before))[-1]
    assert len(layout[DIFFERENCE]) == 0
