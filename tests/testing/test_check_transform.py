"""The check of a transform of one's own: it passes everything in the box, and says what is wrong with each mistake."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from umbel.testing import check_transform
from umbel.transforms import Reader, Transform, cast, clip, differences, int8, register, top_k
from umbel.update import DIFFERENCE

BOX = [differences(), clip(0.5), cast("fp16"), cast("bf16"), int8(), int8(block=10), top_k(0.1), top_k(1.0)]


@pytest.mark.parametrize("transform", BOX, ids=repr)
def test_everything_in_the_box_passes(transform):
    check_transform(transform)


def registered(transform):
    """The same, known to the other side by a name of its own."""

    def make(**settings: object) -> Transform:
        return transform

    make.__name__ = make.__qualname__ = transform.name
    register(make)
    return transform


_calls = itertools.count()


def changed(update, function):
    arrays = [np.asarray(function(a)).astype(a.dtype) if a.dtype.kind in "fV" else a for a in update.parts[DIFFERENCE]]
    return update._replace(parts={**update.parts, DIFFERENCE: arrays})


def in_place(update, base, site):
    update.parts[DIFFERENCE][0] *= 2
    base[0][...] = 0
    return update


def unsteady(update, base, site):
    return changed(update, lambda a: a + next(_calls))


def longer(update, base, site):
    return update._replace(parts={DIFFERENCE: [a.reshape(-1)[:1] for a in update.parts[DIFFERENCE]]})


def remembers_code(update, base, site):
    site.memory["code"] = longer
    return update


def remembers_in_place(update, base, site):
    kept = site.memory.setdefault("sum", np.zeros(3))
    kept += 1
    return update


def by_cut(reader, arrival):
    return Reader(arrival.layout, lambda p, i, start, size: reader.read(p, i, start, size) * np.float16(min(size, 2)))


def short(reader, arrival):
    return Reader(arrival.layout, lambda p, i, start, size: reader.read(p, i, start, size)[:5])


def raises(reader, arrival):
    def read(part, position, start, size):
        values = reader.read(part, position, start, size)
        if size and values.dtype.kind == "f" and np.abs(values.astype("float64")).max() > 1000:
            raise ValueError("too large")
        return values

    return Reader(arrival.layout, read)


MISTAKES = {
    "read-only": Transform("wrong_in_place", encode=in_place),
    "gave other bits the second time; draw from site.rng() alone": Transform("wrong_unsteady", encode=unsteady),
    "encode() of wrong_longer made": Transform("wrong_longer", encode=longer),
    "what wrong_code remembers cannot be kept": Transform("wrong_code", encode=remembers_code),
    "changed what it remembers in place; assign new arrays": Transform("wrong_memory", encode=remembers_in_place),
    "gave other values where they were read 1 at a time": Transform("wrong_cut", decode=by_cut),
    "read float32[5] where 3000 coordinates are": Transform("wrong_short", decode=short),
    "raised ValueError for values that a liar may send: too large": Transform("wrong_raises", decode=raises),
    "depends on where blocks are cut; go by `start`": Transform("wrong_finish", finish=lambda b, start, t, f: b - b.mean()),
    "made the fact norm=nan": Transform("wrong_fact", advance=lambda facts, totals: {"norm": float("nan")}),
    "of the same facts": Transform("wrong_advance", advance=lambda facts, totals: {"n": next(_calls)}),
}


@pytest.mark.parametrize(("words", "transform"), MISTAKES.items(), ids=[each.name for each in MISTAKES.values()])
def test_a_mistake_is_named(words, transform):
    with pytest.raises(AssertionError) as told:
        check_transform(registered(transform))
    assert words in str(told.value)


def test_a_transform_that_the_other_side_cannot_make_is_named():
    with pytest.raises(AssertionError, match="no transform is registered as 'nobody'"):
        check_transform(Transform("nobody"))
    registered(Transform("one_setting", {"size": 1}))
    with pytest.raises(AssertionError, match=r"one_setting\(size=2\) make one_setting\(size=1\) on the other side"):
        check_transform(Transform("one_setting", {"size": 2}))
