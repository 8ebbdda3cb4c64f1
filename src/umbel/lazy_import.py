"""Names that a module imports when somebody asks for them: a simulation has no use for what a server or a client needs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

__all__ = ["lazy_import"]


def lazy_import(module: str, source: str, *names: str) -> Callable[[str], object]:
    """A `__getattr__` for `module`, by which `names` come from the module `source`."""

    def attribute(name: str) -> object:
        if name in names:
            return getattr(import_module(source), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return attribute
