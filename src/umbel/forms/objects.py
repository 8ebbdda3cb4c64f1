"""Functions, and objects of a class, of which a name or the class itself is often given by mistake."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from types import FunctionType

from umbel.forms.form import Form, Wrong, shown

__all__ = ["function", "functions", "instance", "maker", "objects", "parameters", "several"]


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
            raise Wrong(TypeError, f"write {{name}}=[{shown(value)}]" if isinstance(value, FunctionType) else "give a list")
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
        cls = getattr(sys.modules.get(module), kind, None)  # a module that is not imported has no objects
        if isinstance(value, type):
            made = f"{value.__name__}()"
            right = (cls is not None and issubclass(value, cls)) or (has and hasattr(value, has))
            raise Wrong(TypeError, f"this is the class; write {{name}}={made}" if right else "this is a class")
        if (cls is not None and isinstance(value, cls)) or (has and hasattr(value, has)):
            return value
        if isinstance(value, str):
            raise Wrong(TypeError, _named(value, among, kind) if among else "")
        if isinstance(value, Mapping) and such_as.startswith(f"{kind}("):
            given = ", ".join(f"{key}={shown(one)}" for key, one in value.items())
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


def several(of: str, such_as: str, *, says: str) -> Form:
    """A list or tuple of objects of a class, "package.module:Class"."""
    one = instance(of, such_as)

    def read(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise Wrong(TypeError)
        return tuple(one.read(each) for each in value)

    return Form(says, read, such_as)


def parameters(such_as: str) -> Form:
    """Parameters, made from a list of arrays or a mapping of names to arrays where they are not yet."""

    def read(value: object) -> object:
        try:
            made: object = import_module("umbel.dialogue").as_parameters(value)
            return made
        except ValueError as error:  # what cannot travel, with the remedy
            raise Wrong(TypeError, str(error)) from None

    return Form("Parameters, a list of arrays or a mapping of names to arrays, such as a state_dict", read, such_as)


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
