"""A list of arrays that knows what each of them is called, and what those without names are called.

Programs that take a list of arrays see a list. Knows names and numpy; knows no bytes, files or clients.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from umbel.wire import BYTES, short, shorten

__all__ = ["DType", "NDArray", "NDArrays", "NamedArrays", "are_numbers", "numbers"]

DType = np.dtype[Any]
NDArray = npt.NDArray[Any]  # of whichever dtype: a model mixes them
NDArrays = list[NDArray]


class NamedArrays(list[NDArray]):
    """A list of arrays that knows their names: `parameters[0]` and `parameters["fc.weight"]` are the same array.

    `dict(parameters)` is a dict by name, as are `.keys()`, `.values()`, `.items()` and `.get(name)`; a slice is again such
    a list. What makes a new list of it (`list(p)`, `p[:1] + q`) gives a plain one. What changes its length or order in place
    (`append`, `pop`, `reverse`, …) takes the names from it: then they are those of arrays without names, "0", "1", ….

    >>> p = NamedArrays([np.zeros((2, 3)), np.ones(2)], ["fc.weight", "fc.bias"])
    >>> p.names, p["fc.bias"].tolist(), {name: array.shape for name, array in p.items()}
    (('fc.weight', 'fc.bias'), [1.0, 1.0], {'fc.weight': (2, 3), 'fc.bias': (2,)})
    """

    __slots__ = ("_metadata", "_names")

    def __init__(
        self,
        arrays: Iterable[NDArray] = (),
        names: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        list.__init__(self, arrays)
        if "jax.tree_util" in sys.modules:
            _show_to_jax()
        if names is not None and len(names) != len(self):
            raise ValueError(f"{len(self)} arrays have {len(names)} names; each has one")
        self._names = names if names is None or type(names) is tuple else tuple(names)
        self._metadata = metadata

    @property
    def names(self) -> tuple[str, ...]:
        """What the arrays are called, in order; "0", "1", … where they have no names."""
        return numbers(len(self)) if self._names is None else self._names

    @property
    def are_named(self) -> bool:
        """Whether they have names at all, be they numbers."""
        return self._names is not None

    @property
    def metadata(self) -> Mapping[str, str]:
        """What a model's file says about itself: texts by name, {} where it says nothing."""
        return {} if self._metadata is None else self._metadata

    def keys(self) -> tuple[str, ...]:
        """The names, so that `dict(parameters)` is a dict by name."""
        return self.names

    def values(self) -> NDArrays:
        """The arrays, as a plain list."""
        return list(self)

    def items(self) -> list[tuple[str, NDArray]]:
        """Pairs of name and array, in order."""
        return [*zip(self.names, self, strict=True)]

    def get(self, name: str, default: NDArray | None = None) -> NDArray | None:
        """The array of this name, or `default` where there is none."""
        return self[name] if name in self.names else default

    @overload
    def __getitem__(self, key: SupportsIndex | str, /) -> NDArray: ...
    @overload
    def __getitem__(self, key: slice, /) -> NamedArrays: ...
    def __getitem__(self, key: SupportsIndex | str | slice, /) -> NDArray | NamedArrays:
        if isinstance(key, str):
            return super().__getitem__(self._position(key))
        if isinstance(key, slice):
            return NamedArrays(super().__getitem__(key), self.names[key])
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any, /) -> None:
        if isinstance(key, str):
            key = self._position(key)
        elif isinstance(key, slice):
            size = len(self)
            super().__setitem__(key, value)
            if len(self) != size:
                self._names = None
            return
        super().__setitem__(key, value)

    def __contains__(self, key: object, /) -> bool:
        return key in self.names if isinstance(key, str) else super().__contains__(key)

    def copy(self) -> NamedArrays:
        """The same arrays in a new list."""
        return NamedArrays(self, self._names, self._metadata)

    __copy__ = copy

    def __reduce__(self) -> tuple[type[NamedArrays], tuple[object, ...]]:
        return NamedArrays, (list(self), self._names, self._metadata)

    def _position(self, name: str) -> int:
        for called in (name, name + BYTES):
            if called in self.names:
                return self.names.index(called)
        near = get_close_matches(name, self.names, n=1)
        there = f"did you mean {short(near[0])}?" if near else f"they are called {shorten([*map(short, self.names)])}"
        raise KeyError(f"no array is called {short(name)}; {there}")


def _without_names(method: str) -> Callable[..., object]:
    """The list's own method, after which the names no longer belong to the arrays."""
    own = getattr(list, method)

    def change(self: NamedArrays, *args: Any, **keywords: Any) -> object:
        self._names = None
        return own(self, *args, **keywords)

    change.__name__, change.__doc__ = method, own.__doc__
    return change


for _method in (
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort", "__delitem__", "__iadd__", "__imul__"
):  # fmt: skip
    setattr(NamedArrays, _method, _without_names(_method))


@cache
def _show_to_jax() -> None:
    """Has `jax.tree.map` see a list's arrays here, too: JAX takes a class that derives from list for a leaf."""
    register = getattr(sys.modules["jax.tree_util"], "register_pytree_node", None)
    if register is not None:
        register(NamedArrays, lambda arrays: ([*arrays], None), lambda _, arrays: [*arrays])


@lru_cache(maxsize=256)
def numbers(count: int) -> tuple[str, ...]:
    """What arrays without names are called: numbers of one width, so that by name they are in order, too.

    >>> numbers(3), numbers(11)[-2:]
    (('0', '1', '2'), ('09', '10'))
    """
    width = len(str(count - 1))
    return tuple(f"{position:0{width}}" for position in range(count))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether these are what arrays without names are called, here or in runs of an older Umbel ("9", "10").

    >>> are_numbers(["00", "01.bytes"]), are_numbers(["0", "fc.bias"])
    (True, False)
    """
    plain = [name.removesuffix(BYTES) for name in names]
    return all(name.isdecimal() and int(name) == position for position, name in enumerate(plain))
