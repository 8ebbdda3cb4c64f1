"""Calls the functions of a transform: checks what each returns, and notes at an error which function raised it.

Knows one transform; knows no chains. Without the note a client would be blamed for the server's half, or the reverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from umbel.params import DType, NDArray, NDArrays
from umbel.transforms.base import Arrival, Facts, Reader, Site, Totals, Transform, is_in_the_box, plain_number
from umbel.update import Layout, Update
from umbel.wire import Schema, short

__all__ = ["advance", "decode", "encode", "finish", "lay_out", "whose"]

_BY = "raised by "


def whose(error: BaseException) -> str | None:
    """Which function of a transform has raised this, "encode() of rotate" say; None for any other error."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_BY)]
    return notes[0].removeprefix(_BY) if notes else None


@contextmanager
def _blame(half: str, link: Transform) -> Iterator[None]:
    """Notes at an error raised inside which function raised it; the innermost note counts."""
    try:
        yield
    except BaseException as error:  # sys.exit(), too
        if whose(error) is None:
            error.add_note(f"{_BY}{half}() of {link.name}")
        raise


def lay_out(link: Transform, before: Layout) -> Layout:
    """What `layout` makes of a layout. Raises `ValueError` for what is none."""
    with _blame("layout", link):
        made: object = link.layout(before)
        if not isinstance(made, Layout):
            raise ValueError(f"layout() of {link.name} returned {_show(made)}; return a Layout, such as layout.replaced(…)")
        for part, schema in made.parts:
            if not isinstance(part, str) or not (schema is None or isinstance(schema, Schema)):
                raise ValueError(f"layout() of {link.name} has {_show(schema)} for the part {part!r}; give each a Schema")
        gone = [part for part, _ in before.parts if part not in made]
        if gone and not link.decodes:
            raise ValueError(f"layout() of {link.name} has no part {gone[0]!r} any more, and no decode() restores it")
        made.schema  # noqa: B018  # raises for two tensors of one name
        return made


def encode(link: Transform, update: Update, base: NDArrays, site: Site, layout: Layout) -> Update:
    """What `encode` makes of an update. Raises `ValueError` where it is not what `layout` says."""
    with _blame("encode", link):
        made: object = link.encode(update, base, site)
        if not isinstance(made, Update) or not isinstance(made.parts, Mapping):
            said = _show(made if not isinstance(made, Update) else made.parts)
            raise ValueError(f"encode() of {link.name} returned {said}; return an Update: update._replace(parts={{…}})")
        for part, arrays in made.parts.items():
            whole = isinstance(arrays, list)
            odd = [each for each in arrays if not isinstance(each, (np.ndarray, np.generic))] if whole else [arrays]
            if odd:
                raise ValueError(f"encode() of {link.name} made {_show(odd[0])} in {part!r}; a part is a list of arrays")
        forms = {part: [(array.dtype, array.shape) for array in arrays] for part, arrays in made.parts.items()}
        wanted = {part: layout[part].forms for part, _ in layout.parts}
        if forms != wanted:
            raise ValueError(f"encode() of {link.name} made {_list_parts(forms)}, and its layout says {_list_parts(wanted)}")
        return made


def decode(link: Transform, reader: Reader, arrival: Arrival) -> Reader:
    """The reader that `decode` makes. It raises `ValueError` for what are not so many real numbers."""
    with _blame("decode", link):
        made: object = link.decode(reader, arrival)
        if not isinstance(made, Reader) or not callable(made.read):
            raise ValueError(f"decode() of {link.name} returned {_show(made)}; return Reader(arrival.layout, read)")
    if is_in_the_box(link):  # a model of many tensors is read in many small blocks: 1 µs each
        return made
    inner = made.read

    def read(part: str, position: int, start: int, size: int) -> NDArray:
        with _blame("decode", link):
            values: object = inner(part, position, start, size)
            if not isinstance(values, np.ndarray) or values.shape != (size,) or values.dtype.kind not in "fiubV":
                raise ValueError(
                    f"decode() of {link.name} read {_show(values)} where {size} coordinates are; return real numbers"
                )
            return values

    return Reader(arrival.layout, read)


def finish(link: Transform, block: NDArray, start: int, totals: Totals, facts: Facts) -> NDArray:
    """The block as `finish` gives it, in float64. Raises `ValueError` for one of another shape."""
    if link.finish is None:
        return block
    with _blame("finish", link):
        made: object = link.finish(block, start, totals, facts)
        if not isinstance(made, np.ndarray) or made.shape != block.shape or made.dtype.kind not in "fiubV":
            raise ValueError(f"finish() of {link.name} returned {_show(made)} for {_show(block)}; return a block like it")
        return np.asarray(made, np.float64)


def advance(link: Transform, facts: Facts, totals: Totals) -> dict[str, float]:
    """The facts of the next round. Raises `ValueError` for what are no finite numbers under names."""
    if link.advance is None:
        return dict(facts)
    with _blame("advance", link):
        made: object = link.advance(facts, totals)
        if not isinstance(made, Mapping):
            raise ValueError(f"advance() of {link.name} returned {_show(made)}; return a dict of numbers")
        after = {name: plain_number(value) for name, value in made.items()}
        for name, value in after.items():
            if value is None or not isinstance(name, str):
                raise ValueError(
                    f"advance() of {link.name} made the fact {name}={short(made[name])}; facts are finite numbers"
                )
        return {name: value for name, value in after.items() if value is not None}


def _show(value: object) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _list_parts(parts: Mapping[str, list[tuple[DType, tuple[int, ...]]]]) -> str:
    """The parts of an update, each with its first arrays."""
    texts = []
    for part, forms in parts.items():
        first = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in forms[:3])
        texts.append(f"{part}: {first}{', …' if len(forms) > 3 else ''}")
    text = "; ".join(texts)
    return text if len(text) <= 200 else text[:200] + "…"
