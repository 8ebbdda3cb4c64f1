"""Transforms one after another, as both sides run them. Knows updates and readers; knows no files, clients or rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from umbel.params import NDArray, Params, schema_of
from umbel.transforms import halves
from umbel.transforms.base import Applied, Arrival, Facts, Reader, Site, Totals, Transform, find, is_in_the_box, make
from umbel.transforms.differences import differences
from umbel.update import MODEL, NOTHING, Layout, Update
from umbel.wire import Schema, short

__all__ = ["Chain", "Finish", "chain", "chain_of", "decoded", "identity"]

Finish = Callable[[NDArray, int], NDArray]  # a block of the mean difference, and its first floating coordinate


@dataclass(frozen=True, slots=True)
class Chain:
    """Transforms in the order of `encode`; the server undoes them from the last to the first."""

    links: tuple[Transform, ...] = ()

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.links))})"

    def layouts(self, model: Schema | None, beside: Mapping[str, Schema] = NOTHING) -> tuple[Layout, ...]:
        """The layout before each link, and what travels in the end, of updates with these parts `beside` the values."""
        return _layouts(self.links, Layout.of(model, beside))

    @property
    def facts(self) -> dict[str, dict[str, float]]:
        """The facts of the first round, by the link's name."""
        return {link.name: dict(link.facts) for link in self.links if link.facts or link.advance}

    @property
    def makers(self) -> tuple[Callable[..., Transform], ...]:
        """The functions that make the links that are not in the box. Raises `ValueError` for one that the other
        side could not make.
        """
        found = []
        for link in self.links:
            maker = find(link.name)
            if maker is None:
                raise ValueError(
                    f"no transform is registered as {link.name!r}; put @register before the function that makes it"
                )
            if not is_in_the_box(link):
                _make_again(link, maker)
                found.append(maker)
        return tuple(found)

    def applied(self, facts: Mapping[str, Facts]) -> tuple[Applied, ...]:
        """The chain as a task names it."""
        return tuple(Applied(each.name, dict(each.settings), dict(facts.get(each.name, {}))) for each in self.links)

    def encode(
        self,
        update: Update,
        base: Params,
        site: Callable[[Transform], Site],
        beside: Mapping[str, Schema] = NOTHING,
    ) -> tuple[Update, Layout]:
        """What travels, and its layout. `base` is the model that the client was given, unchanged.

        Raises `Rejected` where what `fit` returned does not fit it, and `ValueError` where a link breaks its promise.
        """
        layouts, given = self.layouts(base.schema, beside), base.arrays()
        Layout.of(base.schema).admit("fit()", schema_of(update.parts[MODEL]))
        for link, layout in zip(self.links, layouts[1:], strict=True):
            update = halves.encode(link, update, given, site(link), layout)
        return update, layouts[-1]

    def decode(
        self, reader: Reader, base: Reader, facts: Mapping[str, Facts], beside: Mapping[str, Schema] = NOTHING
    ) -> Reader:
        """Reads the values of an update that has travelled, block by block; `base` reads the model that its client got."""
        layouts = self.layouts(base.layout[MODEL], beside)
        for link, layout in zip(reversed(self.links), reversed(layouts[:-1]), strict=True):
            reader = halves.decode(link, reader, Arrival(layout, base, facts.get(link.name, {})))
        return reader

    def finish(self, totals: Totals, facts: Mapping[str, Facts]) -> Finish | None:
        """What happens to the round's mean difference, from the last link to the first; None where nothing does."""
        links = [link for link in reversed(self.links) if link.finish is not None]
        if not links:
            return None

        def finish(block: NDArray, start: int) -> NDArray:
            for link in links:
                block = halves.finish(link, block, start, totals, facts.get(link.name, {}))
            return block

        return finish

    def advance(self, facts: Mapping[str, Facts], totals: Totals) -> dict[str, dict[str, float]]:
        """The facts of the next round."""
        after = {name: dict(found) for name, found in facts.items()}
        for link in self.links:
            if link.advance is not None:
                after[link.name] = halves.advance(link, facts.get(link.name, {}), totals)
        return after


def _make_again(link: Transform, maker: Callable[..., Transform]) -> None:
    """Raises `ValueError` where the settings of a transform do not make it again, as the other side will."""
    try:
        again: object = maker(**link.settings)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{maker.__name__}() does not take the settings of its {link!r} by name ({error}); they are its arguments"
        ) from None
    if not isinstance(again, Transform) or (again.name, dict(again.settings)) != (link.name, dict(link.settings)):
        raise ValueError(f"the settings of {link!r} make {again!r} on the other side; they are its function's arguments")


@lru_cache(maxsize=4)
def _layouts(links: tuple[Transform, ...], update: Layout) -> tuple[Layout, ...]:
    layouts = [update]
    for link in links:
        layouts.append(halves.lay_out(link, layouts[-1]))
    return tuple(layouts)


def chain(*transforms: Transform | Chain | None) -> Chain:
    """Transforms one after another; what `differences` makes comes before all of them.

    A codec is the last one, because what comes after it would see codes in place of differences; `clip` sees the update as
    it was trained, and clips again what the server has decoded. Raises `ValueError` for an order that cannot work, for two
    codecs, and for one name twice, and `TypeError` for what is no transform.

    >>> from umbel.transforms import clip, int8
    >>> chain(clip(1.0), int8())
    chain(differences(), clip(norm=1.0), int8(block=4096))
    """
    links: list[Transform] = []
    for each in transforms:
        if each is not None and not isinstance(each, (Transform, Chain)):
            raise TypeError(f"chain() takes transforms; got {short(each)}: write chain(clip(1.0), int8())")
        links += each.links if isinstance(each, Chain) else [] if each is None else [each]
    links = [link for link in links if link.name != "differences"]
    if all(each is None or (isinstance(each, Chain) and not each.links) for each in transforms):
        return _IDENTITY
    for position, link in enumerate(links):
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


def decoded(
    applied: Iterable[Applied], reader: Reader, base: Reader, beside: Mapping[str, Schema] = NOTHING
) -> Reader:
    """Reads the values of an update that has travelled by way of these transforms."""
    applied = tuple(applied)
    return chain_of(applied).decode(reader, base, {each.name: each.facts for each in applied}, beside)


def chain_of(applied: Iterable[Applied]) -> Chain:
    """The chain that a task names. Raises `Rejected` where this side cannot make it."""
    return Chain(tuple(make(each) for each in applied))
