"""Code that another process could not import travels by value: cells of a notebook, `__main__`, modules of a test runner."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder

import cloudpickle

__all__ = ["by_value"]


@contextlib.contextmanager
def by_value(function: object) -> Iterator[None]:
    """While inside, cloudpickle writes out the function's module if it cannot be imported by its name.

    `__main__` is written out in any case.
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__module__", None) or getattr(type(function), "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name == "__main__" or _importable(str(name)):
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
