"""Transforms one after another, as both sides run them. Knows updates and readers; knows no files, clients or rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from umbel.params import DType, NDArray, Params, schema_of
from umbel.transforms.base import Applied, Arrival, Facts, Reader, Site, Totals, Transform, find, make
from umbel.transforms.differences import differences
from umbel.update import MODEL, Layout, Update
from umbel.wire import Schema

__all__ = ["Chain", "Finish", "chain", "chain_of", "decoded", "identity"]

Finish = Callable[[NDArray, int], NDArray]  # a block of the mean difference, and its first floating coordinate


@dataclass(frozen=True, slots=True)
class Chain:
    """Transforms in the order of `encode`; the server undoes them from the last to the first."""

    links: tuple[Transform, ...] = ()

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.links))})"

    def layouts(self, model: Schema | None) -> tuple[Layout, ...]:
        """The layout before each link, and what travels in the end."""
        return _layouts(self.links, model)

    @property
    def facts(self) -> dict[str, dict[str, float]]:
        """The facts of the first round, by the link's name."""
        return {link.name: dict(link.facts) for link in self.links if link.facts}

    @property
    def makers(self) -> tuple[Callable[..., Transform], ...]:
        """The functions that make the links that are not in the box. Raises `ValueError` for one that nobody registered."""
        found = []
        for link in self.links:
            maker = find(link.name)
            if maker is None:
                raise ValueError(
                    f"no transform is registered as {link.name!r}; put @register before the function that makes it"
                )
            if not maker.__module__.startswith("umbel."):
                found.append(maker)
        return tuple(found)

    def applied(self, facts: Mapping[str, Facts]) -> tuple[Applied, ...]:
        """The chain as a task names it."""
        return tuple(Applied(each.name, dict(each.settings), dict(facts.get(each.name, {}))) for each in self.links)

    def encode(self, update: Update, base: Params, site: Callable[[Transform], Site]) -> tuple[Update, Layout]:
        """What travels, and its layout. `base` is what the client was given, unchanged.

        Raises `Rejected` where what `fit` returned does not fit it, and `ValueError` where a link breaks its promise.
        """
        layouts, given = self.layouts(base.schema), base.arrays()
        layouts[0].admit("fit()", schema_of(update.parts[MODEL]))
        for link, layout in zip(self.links, layouts[1:], strict=True):
            update = link.encode(update, given, site(link))
            made = {part: [(array.dtype, array.shape) for array in arrays] for part, arrays in update.parts.items()}
            wanted = {part: layout[part].forms for part, _ in layout.parts}
            if made != wanted:
                raise ValueError(f"encode() of {link.name} made {_shown(made)}, and its layout says {_shown(wanted)}")
        return update, layouts[-1]

    def decode(self, reader: Reader, base: Reader, facts: Mapping[str, Facts]) -> Reader:
        """Reads the values of an update that has travelled, block by block; `base` reads what its client was given."""
        layouts = self.layouts(base.layout[MODEL])
        for link, layout in zip(reversed(self.links), reversed(layouts[:-1]), strict=True):
            reader = link.decode(reader, Arrival(layout, base, facts.get(link.name, {})))
        return reader

    def finish(self, totals: Totals, facts: Mapping[str, Facts]) -> Finish | None:
        """What happens to the round's mean difference, from the last link to the first; None where nothing does."""
        links = [link for link in reversed(self.links) if link.finish is not None]
        if not links:
            return None

        def finish(block: NDArray, start: int) -> NDArray:
            for link in links:
                assert link.finish is not None
                block = np.asarray(link.finish(block, start, totals, facts.get(link.name, {})), np.float64)
            return block

        return finish

    def advance(self, facts: Mapping[str, Facts], totals: Totals) -> dict[str, dict[str, float]]:
        """The facts of the next round."""
        after = {name: dict(found) for name, found in facts.items()}
        for link in self.links:
            if link.advance is not None:
                made = link.advance(facts.get(link.name, {}), totals)
                after[link.name] = {name: _number(link, name, value) for name, value in made.items()}
        return after


def _shown(parts: Mapping[str, list[tuple[DType, tuple[int, ...]]]]) -> str:
    """The parts of an update, each with its first arrays."""
    texts = []
    for part, forms in parts.items():
        first = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in forms[:3])
        texts.append(f"{part}: {first}{', …' if len(forms) > 3 else ''}")
    text = "; ".join(texts)
    return text if len(text) <= 200 else text[:200] + "…"


def _number(link: Transform, name: str, value: object) -> float:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, (int, float)) and math.isfinite(plain):
        return plain
    raise ValueError(f"advance() of {link.name} made the fact {name}={value!r}; facts are finite numbers")


@lru_cache(maxsize=4)
def _layouts(links: tuple[Transform, ...], model: Schema | None) -> tuple[Layout, ...]:
    layouts = [Layout.of(model)]
    for link in links:
        layouts.append(link.layout(layouts[-1]))
    return tuple(layouts)


def chain(*transforms: Transform | Chain | None) -> Chain:
    """Transforms one after another; what `differences` makes comes before all of them.

    A codec is the last one, because what comes after it would see codes in place of differences; `clip` sees the update as
    it was trained, and clips again what the server has decoded. Raises `ValueError` for an order that cannot work, for two
    codecs, and for one name twice.

    >>> from umbel.transforms import clip, int8
    >>> chain(clip(1.0), int8())
    chain(differences(), clip(norm=1.0), int8(block=4096))
    """
    links: list[Transform] = []
    for each in transforms:
        links += each.links if isinstance(each, Chain) else [] if each is None else [each]
    links = [link for link in links if link.name != "differences"]
    if all(each is None or (isinstance(each, Chain) and not each.links) for each in transforms):
        return _IDENTITY
    for position, link in enumerate(links):
        odd = [name for name, value in link.settings.items() if not isinstance(value, (bool, int, float, str))]
        if odd:
            raise ValueError(
                f"{link.name} has the setting {odd[0]}={link.settings[odd[0]]!r}; a task carries numbers and texts alone"
            )
        before = links[:position]
        codec = next((other for other in before if other.codec), None)
        if any(other.name == link.name for other in before):
            raise ValueError(f"chain() has {link.name} twice; once is enough")
        if codec is not None and link.codec:
            raise ValueError(f"chain() has the codecs {codec.name} and {link.name}; an update travels in one of them")
        if codec is not None:
            raise ValueError(
                f"chain() has {link.name} after {codec.name}, whose codes it would see; write "
                f"chain({', '.join(f'{each.name}(…)' for each in [*(x for x in links if not x.codec), codec])})"
            )
    return Chain((differences(), *links))


def identity() -> Chain:
    """No transforms: values travel as the client returned them."""
    return _IDENTITY


_IDENTITY = Chain()


def decoded(applied: Iterable[Applied], reader: Reader, base: Reader) -> Reader:
    """Reads the values of an update that has travelled by way of these transforms."""
    applied = tuple(applied)
    return chain_of(applied).decode(reader, base, {each.name: each.facts for each in applied})


def chain_of(applied: Iterable[Applied]) -> Chain:
    """The chain that a task names. Raises `Rejected` where this side cannot make it."""
    return Chain(tuple(make(each) for each in applied))
