"""What a keyword may be given, as values: a number within limits, a function, an object of a class. Knows no keyword."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from numbers import Integral, Real
from types import FunctionType
from typing import NamedTuple

__all__ = [
    "Form",
    "anything",
    "either",
    "flag",
    "function",
    "functions",
    "instance",
    "maker",
    "mapping",
    "names",
    "objects",
    "one_of",
    "parameters",
    "path",
    "pem",
    "real",
    "several",
    "some_of",
    "text",
    "whole",
]

LARGEST = 2**63 - 1  # what a journal and a database keep as an integer


class Wrong(Exception):
    """A value that a form does not take; `family` is the error for it, and the text says more than the form does."""

    def __init__(self, family: type[TypeError] | type[ValueError], remark: str = "") -> None:
        super().__init__(remark)
        self.family = family


class Form(NamedTuple):
    """A right value: `says` completes "it is …", and `read` gives it as a plain one or raises `Wrong`.

    `none` says what None stands for; "" refuses None. `such_as` is a right value as people write it.
    """

    says: str
    read: Callable[[object], object]
    such_as: str = ""
    none: str = ""

    def or_none(self, meaning: str) -> Form:
        """The same, and None."""
        return self._replace(none=meaning)

    def check(self, name: str, value: object) -> object:
        """`value` as a plain one. Raises `TypeError` and `ValueError`, which name the keyword, the value and the form.

        >>> whole(1, of="of rounds").check("num_rounds", "3")
        Traceback (most recent call last):
        TypeError: num_rounds='3'; it is a whole number of rounds, 1 or more: write num_rounds=3, without quotes
        """
        if value is None and self.none:
            return None
        try:
            return self.read(value)
        except Wrong as wrong:
            says = f"{self.says}, or None for {self.none}" if self.none else self.says
            remedy = str(wrong).replace("{name}", name) or (f"write {name}={self.such_as}" if self.such_as else "")
            raise wrong.family(f"{name}={_shown(value)}; it is {says}{remedy and f': {remedy}'}") from None


def whole(least: int | None, *, of: str = "") -> Form:
    """A whole number of at least `least`, None for any, Python's or numpy's; no bool, and no 3.0."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise Wrong(TypeError, _unquoted(value, int) or _rounded(value))
        number = int(value)
        if least is not None and not least <= number <= LARGEST:
            raise Wrong(ValueError, f"{LARGEST:,} is the most" if number > LARGEST else "")
        return number

    return Form(f"a whole number{of and f' {of}'}{'' if least is None else f', {least} or more'}", read)


def real(
    says: str, *, least: float = -math.inf, most: float = math.inf, above: float = -math.inf, below: float = math.inf
) -> Form:
    """A finite number within these limits, Python's or numpy's; no bool."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise Wrong(TypeError, _unquoted(value, float))
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not least <= number <= most or not above < number < below:
            raise Wrong(ValueError)
        return int(value) if isinstance(value, Integral) else number

    return Form(says, read)


def flag() -> Form:
    """True or False, numpy's as well; 1 and 0 will do."""

    def read(value: object) -> bool:
        if type(value).__name__ in ("bool", "bool_") or (isinstance(value, Integral) and value in (0, 1)):
            return bool(value)
        raise Wrong(TypeError)

    return Form("True or False", read)


def text(says: str, such_as: str = "") -> Form:
    """A str that is not empty."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(TypeError)
        if not value:
            raise Wrong(ValueError)
        return str(value)

    return Form(says, read, such_as)


def one_of(*choices: str) -> Form:
    """One of these words."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(TypeError)
        if value not in choices:
            raise Wrong(ValueError, _nearest(value, choices))
        return value

    listed = ", ".join(map(repr, choices))
    return Form(f"one of {listed}", read)


def some_of(*choices: str) -> Form:
    """One of these words, or a list of them; as a tuple, each once."""
    one = one_of(*choices)

    def read(value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            return (one.read(value),)
        if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
            raise Wrong(TypeError)
        return tuple(dict.fromkeys(one.read(each) for each in value))

    return Form(f"{one.says}, or a list of them", read)


def path(says: str, such_as: str) -> Form:
    """A str or a `Path`."""

    def read(value: object) -> object:
        if not isinstance(value, (str, os.PathLike)):
            raise Wrong(TypeError)
        return value

    return Form(says, read, such_as)


def pem(*parts: str) -> Form:
    """PEM as bytes or text, or the path of such a file; of several parts, a tuple with each."""
    written = ", ".join(f"{part.replace(' ', '_')}.pem" for part in parts)
    such_as = f"({', '.join(repr(one) for one in written.split(', '))})" if len(parts) > 1 else repr(written)
    says = f"a tuple of {len(parts)}: {', '.join(parts)}" if len(parts) > 1 else parts[0]

    def read(value: object) -> object:
        if len(parts) > 1 and not isinstance(value, (tuple, list)):
            raise Wrong(TypeError)
        several = tuple(value) if len(parts) > 1 else (value,)  # type: ignore[arg-type]  # a tuple or a list
        if len(several) != len(parts):
            raise Wrong(ValueError)
        if not all(isinstance(one, (bytes, str, os.PathLike)) for one in several):
            raise Wrong(TypeError)
        return several if len(parts) > 1 else value

    return Form(f"{says}, PEM as bytes or text, or paths", read, such_as)


def mapping(says: str, such_as: str) -> Form:
    """A dict, or something like it."""

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            raise Wrong(TypeError)
        return value

    return Form(says, read, such_as)


def names(says: str, such_as: str, *, one: bool = False) -> Form:
    """Several things in an order, as a tuple; where `one` may stand alone, also a text."""

    def read(value: object) -> object:
        if one and isinstance(value, str):
            return value
        if isinstance(value, (str, bytes)):
            raise Wrong(TypeError, "this is one text")
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            raise Wrong(TypeError)
        try:
            return tuple(value)
        except TypeError:  # an array without dimensions looks as if it could be iterated
            raise Wrong(TypeError) from None

    return Form(says, read, such_as)


def function(*arguments: str, returns: str) -> Form:
    """Something that can be called with so many arguments."""

    def read(value: object) -> object:
        if not callable(value):
            made = "" if isinstance(value, (str, int, float)) or value is None else "give the function, without calling it"
            raise Wrong(TypeError, made)
        try:
            takes = inspect.signature(value)
        except (TypeError, ValueError):  # some functions in C do not tell
            return value
        try:
            takes.bind(*arguments)
        except TypeError:
            raise Wrong(TypeError, f"this one takes {takes}") from None
        return value

    return Form(f"a function ({', '.join(arguments)}) → {returns}", read)


def functions(*arguments: str, returns: str) -> Form:
    """A list of things that can be called with so many arguments, as a tuple."""
    one = function(*arguments, returns=returns)

    def read(value: object) -> object:
        if callable(value):
            raise Wrong(TypeError, f"write {{name}}=[{_shown(value)}]" if isinstance(value, FunctionType) else "give a list")
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise Wrong(TypeError)
        given = tuple(value)
        for each in given:
            if isinstance(each, type):
                raise Wrong(TypeError, f"{each.__name__} is the class; write {{name}}=[{each.__name__}()]")
            one.read(each)
        return given

    return Form(f"a list, each {one.says}", read)


def maker() -> Form:
    """A function that makes a client from a context or from a cid; a class of clients may be one."""
    form = function("context", returns="a NumPyClient or a Client")

    def read(value: object) -> object:
        a_class = isinstance(value, type)
        if not a_class and hasattr(value, "to_client") and not getattr(value, "stands_for_many", False):
            made = f"{type(value).__name__}()"
            raise Wrong(TypeError, f"this is a client, made; write {{name}}=lambda context: {made}")
        try:
            return form.read(value)
        except Wrong as wrong:
            if a_class and hasattr(value, "to_client"):
                raise Wrong(TypeError, f"write {{name}}=lambda context: {value.__name__}(…); {wrong}") from None  # type: ignore[attr-defined]  # a class
            raise

    return form._replace(read=read)


def instance(of: str, such_as: str, *, says: str = "", has: str = "", among: str = "") -> Form:
    """An object of a class, "package.module:Class", or with the attribute `has`; `such_as` makes one.

    `among` is the module that lists the classes for whoever gives the name of one.
    """
    module, _, kind = of.partition(":")

    def read(value: object) -> object:
        cls = getattr(sys.modules.get(module), kind, None)  # an object of a class whose module nobody has imported is none
        if isinstance(value, type):
            made = f"{value.__name__}()"
            right = (cls is not None and issubclass(value, cls)) or (has and hasattr(value, has))
            raise Wrong(TypeError, f"this is the class; write {{name}}={made}" if right else "this is a class")
        if (cls is not None and isinstance(value, cls)) or (has and hasattr(value, has)):
            return value
        if isinstance(value, str):
            raise Wrong(TypeError, _named(value, among, kind) if among else "")
        if isinstance(value, Mapping) and such_as.startswith(f"{kind}("):
            given = ", ".join(f"{key}={_shown(one)}" for key, one in value.items())
            raise Wrong(TypeError, f"write {{name}}={kind}({given})")
        raise Wrong(TypeError)

    article = "an" if kind[0] in "AEIOU" else "a"
    return Form(says or f"{article} {kind}", read, such_as)


def objects(of: str, such_as: str, *, among: str) -> Form:
    """A list of objects of a class, as a tuple; `among` is the module that lists what there is."""
    one = instance(of, such_as, among=among)

    def read(value: object) -> object:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            is_one = not isinstance(value, (str, type)) and _is_a(value, of)
            raise Wrong(TypeError, f"write {{name}}=[{type(value).__name__}(…)]" if is_one else "")
        given = tuple(value)
        for each in given:
            try:
                one.read(each)
            except Wrong as wrong:
                is_function = isinstance(each, FunctionType)
                remedy = "a function of events goes into observers=[…]" if is_function else _same_name(each, among)
                raise Wrong(TypeError, str(wrong).replace("write {name}=", "write ") or remedy) from None
        return given

    return Form(f"a list, each {one.says}", read, f"[{such_as}]")


def parameters(such_as: str) -> Form:
    """Parameters, made from a list of arrays or a mapping of names to arrays where they are not yet."""

    def read(value: object) -> object:
        try:
            made: object = import_module("umbel.dialogue").as_parameters(value)
            return made
        except ValueError as error:  # what cannot travel, with the remedy
            raise Wrong(TypeError, str(error)) from None

    return Form("Parameters, a list of arrays or a mapping of names to arrays, such as a state_dict", read, such_as)


def either(one: Form, other: Form) -> Form:
    """What one of two forms takes. Where both refuse a value, the first says why.

    >>> either(whole(1), text("a name")).check("clients", "north")
    'north'
    """

    def read(value: object) -> object:
        try:
            return one.read(value)
        except Wrong as wrong:
            try:
                return other.read(value)
            except Wrong:
                raise wrong from None

    return Form(f"{one.says}, or {other.says}", read, one.such_as)


def several(of: str, such_as: str, *, says: str) -> Form:
    """A list or tuple of objects of a class, "package.module:Class"."""
    one = instance(of, such_as)

    def read(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise Wrong(TypeError)
        return tuple(one.read(each) for each in value)

    return Form(says, read, such_as)


def anything() -> Form:
    """For keywords that mean nothing here."""
    return Form("anything", lambda value: value, none="nothing")


def _named(value: str, among: str, kind: str) -> str:
    """The remedy for somebody who gives the name of a class in place of an object."""
    known = [name for name in import_module(among).__all__ if name != kind]
    same = [name for name in known if name.lower() == value.lower()] or get_close_matches(value, known, n=1)
    made = f"write {{name}}={same[0]}(), without quotes" if same else "give the object, not its name"
    return f"{made}; there are {', '.join(known)}"


def _is_a(value: object, of: str) -> bool:
    module, _, kind = of.partition(":")
    cls = getattr(sys.modules.get(module), kind, None)
    return cls is not None and isinstance(value, cls)


def _same_name(value: object, among: str) -> str:
    """The remedy for another library's object where there is one of that name here."""
    name = type(value).__name__
    if name not in import_module(among).__all__:
        return f"this is a {name}"
    return f"this one is of {type(value).__module__.partition('.')[0]}; {among}.{name} is the one for a run"


def _nearest(value: str, choices: Iterable[str]) -> str:
    near = get_close_matches(value, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _unquoted(value: object, kind: type[int] | type[float]) -> str:
    """The remedy for a number that came as a text."""
    if not isinstance(value, str):
        return ""
    try:
        number = kind(value)
    except ValueError:
        return ""
    return f"write {{name}}={number!r}, without quotes"


def _rounded(value: object) -> str:
    """The remedy for 3.0, which divisions leave."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value).is_integer():
        return ""
    return f"write {{name}}={float(value):.0f}, or int(…) around it"


def _shown(value: object) -> str:
    """A value in an error: short, whatever its own code says."""
    try:
        said = value.__name__ if isinstance(value, (type, FunctionType)) else repr(value)
    except Exception:  # its __repr__ is user code
        said = f"<{type(value).__name__}>"
    said = " ".join(said.split())
    return said if len(said) <= 80 else f"{said[:77]}…"
