"""An update as it travels: named parts, each a list of tensors, and the layout that says which tensors those are.

    fit's arrays ──► {"model": arrays} ──► transforms ──► {"difference": …, "scales": …} ──► one content ──► the door

Knows schemas and arrays; knows no files, clients or rounds. One content carries all parts of an update, one after another,
their tensors under "part/name". Where the part "model" is the only one its tensors have their own names: such an update is a
content like a model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from umbel.errors import Rejected
from umbel.named import are_numbers
from umbel.params import NDArrays
from umbel.wire import Schema, TensorSpec, short, shorten

__all__ = ["DIFFERENCE", "MODEL", "NOTHING", "Given", "Layout", "Update"]

MODEL = "model"  # the part that has the model's values
DIFFERENCE = "difference"  # the part that says how far these are from what the client was given


NOTHING: Mapping[str, Schema] = MappingProxyType({})  # beside the model
Given = Mapping[str, str]  # what travels to a client with its task: the name of a content by the name of the part


class Update(NamedTuple):
    """What a client answers. `parts` are lists of arrays by the part's name, each in the order of its schema."""

    parts: Mapping[str, NDArrays]
    num_examples: int
    metrics: Mapping[str, object]


@dataclass(frozen=True)
class Layout:
    """Which tensors an update has: a schema for each part, in the order in which the parts travel.

    A part whose schema is None may have any tensors; then it is the only part.

    >>> from umbel.wire import TensorSpec
    >>> one = Schema((TensorSpec("0", "F32", (3,)),))
    >>> Layout.of(one).schema == one
    True
    >>> Layout.of(one).replaced(MODEL, {"codes": one, "scales": one}).schema.names
    ('codes/0', 'scales/0')
    >>> Layout.of(one, {"control": one}).schema.names
    ('model/0', 'control/0')
    """

    parts: tuple[tuple[str, Schema | None], ...]

    @classmethod
    def of(cls, model: Schema | None, beside: Mapping[str, Schema] = NOTHING) -> Layout:
        """The layout of an update that has the model's values, and these parts beside them."""
        return cls(((MODEL, model), *beside.items()))

    def replaced(self, part: str, others: Mapping[str, Schema]) -> Layout:
        """The layout that has `others` where it has `part` now."""
        found: list[tuple[str, Schema | None]] = []
        for name, schema in self.parts:
            found += others.items() if name == part else [(name, schema)]
        return Layout(tuple(found))

    def __contains__(self, part: object) -> bool:
        return any(name == part for name, _ in self.parts)

    def __getitem__(self, part: str) -> Schema:
        """The schema of a part, one without tensors where the layout does not have it."""
        schema = dict(self.parts).get(part)
        return Schema(()) if schema is None else schema

    @cached_property
    def schema(self) -> Schema | None:
        """The tensors of all parts, as one content has them; None where any may come."""
        if len(self.parts) == 1 and self.parts[0][0] == MODEL:
            return self.parts[0][1]
        specs = []
        for part, schema in self.parts:
            if schema is None:
                return None
            specs += [spec._replace(name=f"{part}/{spec.name}") for spec in schema.specs]
        return Schema(tuple(specs))

    @cached_property
    def begins(self) -> dict[str, int]:
        """For each part the position of its first tensor in the content."""
        begins, at = {}, 0
        for part, schema in self.parts:
            begins[part] = at
            at += 0 if schema is None else len(schema)
        return begins

    @property
    def names(self) -> list[str]:
        """The names of the tensors of all parts, as one content has them."""
        return [] if self.schema is None else [*self.schema.names]

    def joined(self, update: Update) -> NDArrays:
        """The arrays of all parts, in the order of `schema`."""
        return [array for part, _ in self.parts for array in update.parts.get(part, [])]

    def part(self, part: str, got: Schema) -> Schema:
        """The schema that a part has in a content with the schema `got`, which this layout admits."""
        begin, names = self.begins[part], self[part].names
        tensors = got.specs[begin : begin + len(names)]
        return Schema(tuple(spec._replace(name=name) for spec, name in zip(tensors, names, strict=True)))

    def split(self, arrays: NDArrays) -> dict[str, NDArrays]:
        """The parts of an update that is given as the arrays of all of them, in the order of `schema`."""
        return {part: arrays[begin : begin + len(self[part])] for part, begin in self.begins.items()}

    def admit(self, method: str, got: Schema) -> None:
        """Checks names and shapes, and the kinds of all but the model's values. Raises `Rejected`, naming what is odd."""
        want = self.schema
        if want is None or got is want:
            return
        plain = want is dict(self.parts).get(MODEL)
        if not plain and got.names != want.names:
            expected = ", ".join(part for part, _ in self.parts)
            raise Rejected(
                f"{method} was answered with {_names_in(got)}, where the task asks for {_names_in(want)} (the parts "
                f"{expected}). The client does not know of them: update its umbel"
            )
        by_place = are_numbers(got.names)
        if not by_place and {*got.names} != {*want.names}:
            raise Rejected(_odd_names(method, got, want))
        if len(got) != len(want):
            raise Rejected(
                f"{method} returned {len(got)} arrays, the model has {len(want)}{_first_difference(got, want)}. "
                "Return every array, in get_parameters order."
            )
        for position, (one, other) in enumerate(zip(got.specs, want.specs, strict=True)):
            if one.name != other.name and not by_place:
                raise Rejected(
                    f"{method} returned {short(one.name)} as array {position}, where the model has {short(other.name)}. "
                    "Return every array, in get_parameters order."
                )
            if one.shape != other.shape:
                called = f"array {position}" if are_numbers(want.names) else f"{short(other.name)} (array {position})"
                raise Rejected(
                    f"{method} returned {called} with shape {short(one.shape)}, the model has {other.shape} there. "
                    "Return every array, in get_parameters order and with its own shape."
                )
            if one.dtype != other.dtype and not (plain or one.name.startswith(f"{MODEL}/")):
                raise Rejected(
                    f"{method} was answered with {one.dtype} in {short(one.name)}, where the task asks for {other.dtype}"
                )


def _names_in(schema: Schema) -> str:
    shown = ", ".join(map(short, schema.names[:3]))
    return f"{len(schema)} arrays ({shown}{', …' if len(schema) > 3 else ''})"


def _odd_names(method: str, got: Schema, want: Schema) -> str:
    """What is odd about the names of arrays that came with names."""
    if are_numbers(want.names):
        return (
            f"{method} returned a mapping ({shorten([*map(short, got.names)], 3)}), and the model's arrays have no names, "
            "because it began as a list. Return a list, or begin with a mapping, such as initial_parameters=net.state_dict()"
        )
    theirs, ours = {*got.names}, {*want.names}
    missing = [spec for spec in want.specs if spec.name not in theirs]
    others = [spec for spec in got.specs if spec.name not in ours]
    odd = [f"lacks {_described(missing)}"] if missing else []
    odd += [f"has {_described(others)}, which the model does not have"] if others else []
    return f"{method} returned a mapping that {' and '.join(odd)}. Return every array of the model, under its name."


def _described(specs: list[TensorSpec]) -> str:
    more = f" and {len(specs) - 1} more" if len(specs) > 1 else ""
    return f"{short(specs[0].name)}, shape {short(specs[0].shape)}{more}"


def _first_difference(got: Schema, want: Schema) -> str:
    """The first array that is missing or one too many, by position."""
    if len(got) < len(want):
        return f" (missing {_described([want.specs[len(got)]])})"
    return f" (unexpected {_described([got.specs[len(want)]])})"
