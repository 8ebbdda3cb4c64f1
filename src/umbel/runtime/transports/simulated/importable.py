"""Code that another process could not import travels by value: cells of a notebook, `__main__`, modules of a test runner."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from types import CodeType, FunctionType
from typing import ClassVar

import cloudpickle

from umbel.runtime.transports.simulated.wrappers import REDUCERS, reduce_dispatch

__all__ = ["by_value", "dump_code"]


@contextlib.contextmanager
def by_value(*functions: object) -> Iterator[None]:
    """While inside, cloudpickle writes out the functions' modules, where they cannot be imported by their names.

    `__main__` is written out in any case.
    """
    with contextlib.ExitStack() as inside:
        for function in functions:
            inside.enter_context(_by_value(function))
        yield


@contextlib.contextmanager
def _by_value(function: object) -> Iterator[None]:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__module__", None) or getattr(type(function), "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    known = cloudpickle.list_registry_pickle_by_value()
    if module is None or name == "__main__" or name in known or _importable(str(name)):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _importable(name: str) -> bool:
    """Whether `sys.path` leads to a module of this name, whatever is loaded under it just now."""
    path, found = None, ""
    for part in name.split("."):
        found = f"{found}.{part}" if found else part
        spec = PathFinder.find_spec(found, path)
        if spec is None:
            return found in sys.builtin_module_names
        path = None if spec.submodule_search_locations is None else [*spec.submodule_search_locations]
    return True


def dump_code(value: object, aside: Callable[[pickle.PickleBuffer], object] | None = None) -> bytes:
    """Bytes of which `pickle.loads` makes the value again, its functions and classes too. `aside` is a `buffer_callback`."""
    file = io.BytesIO()
    _Pickler(file, protocol=5, buffer_callback=aside).dump(value)
    return file.getvalue()


def _reduce_code(code: CodeType) -> tuple[Callable[..., CodeType], tuple[object, ...]]:
    make, arguments = _PLAIN[CodeType](code)
    return _make_code, (code.co_filename, make, *arguments)


def _make_code(file: str, make: Callable[..., CodeType], *arguments: object) -> CodeType:
    return make(*arguments).replace(co_filename=file)


_PLAIN = cloudpickle.Pickler.dispatch_table


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Keeps the names of files, which cloudpickle replaces by "<dynamic-code>": a traceback is to show them.

    Takes what functools makes of functions, too.
    """

    dispatch_table: ClassVar = ChainMap({CodeType: _reduce_code, **REDUCERS}, _PLAIN)

    def reducer_override(self, value: object) -> object:
        made = reduce_dispatch(value) if isinstance(value, FunctionType) else None
        return super().reducer_override(value) if made is None else made
