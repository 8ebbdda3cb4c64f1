"""Layers that stay with their client: which they are, by patterns of names. Knows names; knows no framework and no rounds.

Federated learning with personalization layers (Arivazhagan et al. 2019, FedPer; Collins et al. 2021, FedRep; Li et al. 2021,
FedBN, where they are the normalization layers): the others are trained together, these by each client for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from umbel.frameworks.matching import Shapes
from umbel.params import NDArray, as_arrays

__all__ = ["Personal"]

_PLACE = "personal/"  # before a tensor's name, in a client's `context.state`


class Personal:
    """The tensors whose names match one of these patterns: "head.*", or ["*.bn?.*", "head.*"]. Falsy where there are none.

    >>> Personal("head.*").shared({"body.w": (2,), "head.w": (2,), "head.b": ()})
    {'body.w': (2,)}
    """

    def __init__(self, patterns: str | Sequence[str] = ()) -> None:
        self._patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        for pattern in self._patterns:
            if not isinstance(pattern, str) or not pattern:
                raise TypeError(f"personal={patterns!r}; it is a pattern of names, or a list: write personal='head.*'")

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def check(self, shapes: Shapes) -> None:
        """Raises `ValueError` for a pattern that matches no name of the model, and where they match all of them."""
        for pattern in self._patterns:
            if not any(fnmatchcase(name, pattern) for name in shapes):
                raise ValueError(f"personal={pattern!r} matches no tensor; {_remedy(pattern, shapes)}")
        if self and all(name in self for name in shapes):
            said = ", ".join(map(repr, self._patterns))
            raise ValueError(f"personal={said} matches all tensors, and nothing would be trained together; {_names(shapes)}")

    def shared(self, shapes: Shapes) -> Shapes:
        """Those that travel, in their order."""
        return {name: shape for name, shape in shapes.items() if name not in self}

    def join(
        self,
        shapes: Shapes,
        parameters: Mapping[str, object] | Sequence[object],
        state: Mapping[str, object],
        first: Mapping[str, NDArray],
    ) -> Mapping[str, object] | Sequence[object]:
        """What a model is loaded with: what came, and the client's own tensors, or the `first` ones where it has none yet.

        What came is not looked at: whether it is like the model is said where the model is loaded.
        """
        names = list(parameters) if isinstance(parameters, Mapping) else getattr(parameters, "names", None)
        values = list(parameters.values()) if isinstance(parameters, Mapping) else as_arrays(parameters)
        shared = list(self.shared(shapes))
        if len(values) != len(shared):
            return parameters
        if names is None or set(names) != set(shared):
            names = shared
        own = {name: state.get(_PLACE + name, array) for name, array in first.items() if name in self}
        return {**dict(zip(names, values, strict=True)), **own}

    def keep(self, arrays: Mapping[str, NDArray], state: MutableMapping[str, object]) -> None:
        """Puts the client's own tensors into its state."""
        state.update({_PLACE + name: array for name, array in arrays.items() if name in self})


def _remedy(pattern: str, shapes: Shapes) -> str:
    prefixes = {name[: len(pattern) + 1] for name in shapes if name.startswith((f"{pattern}.", f"{pattern}/"))}
    close = [f"{prefix}*" for prefix in sorted(prefixes)] or get_close_matches(pattern, [*shapes], n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + _names(shapes)


def _names(shapes: Shapes) -> str:
    shown = ", ".join(map(repr, list(shapes)[:20]))
    return f"there are {shown}{f' and {len(shapes) - 20} more' if len(shapes) > 20 else ''}"
