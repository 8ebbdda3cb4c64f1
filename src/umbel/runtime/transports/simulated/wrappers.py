"""What functools makes of people's functions, as pickles that other processes can read. Knows neither workers nor files.

`functools.cache` and `lru_cache` pickle themselves as a name, which another process does not find where the function is one
of a script or of a notebook's cell; `cached_property` (until Python 3.11) has a lock, `singledispatch` and, on some Pythons,
`singledispatchmethod` weak references.
Each travels as what it was made of, and is made again: a cache arrives empty.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import cloudpickle

__all__ = ["REDUCERS", "reduce_dispatch"]

Reduced = str | tuple[Any, ...]  # as `object.__reduce__` answers


def _reduce_cache(wrapper: Any) -> Reduced:
    if _found_by_name(wrapper):
        return str(wrapper.__qualname__)
    own = {name: value for name, value in vars(wrapper).items() if name != "__wrapped__"}
    options = wrapper.cache_parameters()
    return _make_cache, (wrapper.__wrapped__, options["maxsize"], options["typed"]), own


def _make_cache(function: Callable[..., object], maxsize: int | None, typed: bool) -> object:
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_property(one: functools.cached_property[object]) -> Reduced:
    return functools.cached_property, (one.func,), {"attrname": one.attrname}


def reduce_dispatch(function: FunctionType) -> Reduced | None:
    """A `singledispatch` function that has to travel by value; None for every other one."""
    registry = getattr(function, "registry", None)
    if not isinstance(registry, Mapping) or not hasattr(function, "dispatch") or _found_by_name(function):
        return None
    return _make_dispatch, (dict(registry),)


def _make_dispatch(registry: dict[type, Callable[..., object]]) -> object:
    made = functools.singledispatch(registry[object])
    for kind, function in registry.items():
        made.register(kind, function)
    return made


def _reduce_method(one: functools.singledispatchmethod[object]) -> Reduced:
    return _make_method, (one.func, dict(one.dispatcher.registry))


def _make_method(function: Callable[..., object], registry: dict[type, Callable[..., object]]) -> object:
    made = functools.singledispatchmethod(function)
    for kind, method in registry.items():
        made.dispatcher.register(kind, method)
    return made


def _found_by_name(wrapper: Any) -> bool:
    """Whether another process finds this very object under its name."""
    name, path = wrapper.__module__, getattr(wrapper, "__qualname__", "")
    found = sys.modules.get(name)
    by_value = {"__main__", *cloudpickle.list_registry_pickle_by_value()}
    if found is None or not path or any(name == one or name.startswith(f"{one}.") for one in by_value):
        return False
    here: object = found
    for part in path.split("."):
        here = getattr(here, part, None)
    return here is wrapper


REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    type(functools.lru_cache(len)): _reduce_cache,
    functools.cached_property: _reduce_property,
    functools.singledispatchmethod: _reduce_method,
}
