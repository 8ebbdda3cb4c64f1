"""Which tensors of a model are no weights: running statistics and counters, which a server's optimizer leaves alone.

Momentum on a running variance drives it below zero. So an optimizer steps weights, and of these the next version is the
combined update as it is. Knows names, dtypes and shapes; knows no values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from umbel.errors import StrategyError
from umbel.named import are_numbers
from umbel.wire import Schema, TensorSpec, short

__all__ = ["Averaged", "check_averaged", "statistics_of"]

# Patterns of names, such as "*.running_var", or positions; None leaves it to names and forms.
Averaged = Sequence[str | int] | None

# The names that frameworks give them: PyTorch, MXNet, Keras (":0" ends a variable's name); Flax keeps them in "batch_stats".
_NAMED = re.compile(
    r"(running_(mean|var|std)|moving_(mean|var|variance|std)|num_batches_tracked)(:0)?$|(^|[./])batch_stats[./]"
)


def statistics_of(model: Schema, averaged: Averaged = None) -> frozenset[int]:
    """The positions of a model's statistics and counters.

    - `averaged`, patterns of names or positions, decides where it is given.
    - Otherwise names do, where the arrays have any: those that end in "running_var", "moving_variance" and the like.
    - Arrays without names are called "0", "1", …; there the form decides that PyTorch's BatchNorm has in a state_dict: two
      vectors of one length, and then a single integer, which counts the batches.

    Raises `StrategyError` for a pattern that matches nothing, and a position that the model does not have.

    >>> spec = TensorSpec("", "F32", (8,))
    >>> named = [spec._replace(name=f"bn.{name}") for name in ("weight", "bias", "running_mean", "running_var")]
    >>> sorted(statistics_of(Schema(tuple(named)))), sorted(statistics_of(Schema(tuple(named)), ["*.bias", 3]))
    ([2, 3], [1, 3])
    """
    if averaged is not None:
        return frozenset(position for wanted in averaged for position in _matching(model, wanted))
    if not are_numbers(model.names):
        return frozenset(i for i, spec in enumerate(model.specs) if _NAMED.search(spec.name))
    counters = [i for i in range(2, len(model)) if _counts_batches(*model.specs[i - 2 : i + 1])]
    return frozenset(position for i in counters for position in (i - 2, i - 1, i))


def check_averaged(averaged: Averaged) -> None:
    """Raises `TypeError` or `ValueError` where one of these is neither a pattern nor a position."""
    for wanted in averaged or ():
        if isinstance(wanted, bool) or not isinstance(wanted, (str, int)):
            raise TypeError(f"averaged= has {wanted!r}; each is a pattern of names, such as '*.running_var', or a position")
        if isinstance(wanted, int) and wanted < 0:
            raise ValueError(f"averaged= has the position {wanted}; they count from 0")


def _matching(model: Schema, wanted: str | int) -> list[int]:
    if isinstance(wanted, int):
        if wanted >= len(model):
            raise StrategyError(f"averaged= has position {wanted}; the model has {len(model)} arrays, counted from 0")
        return [wanted]
    found = [i for i, spec in enumerate(model.specs) if fnmatchcase(spec.name, wanted)]
    if not found:
        names = ", ".join(short(name) for name in model.names[:8]) + (", …" if len(model) > 8 else "")
        raise StrategyError(
            f"averaged= has {short(wanted)}, which matches no array of the model; they are called {names}. Arrays that "
            "travel without names are chosen by position, such as averaged=[2, 3]"
        )
    return found


def _counts_batches(mean: TensorSpec, variance: TensorSpec, counter: TensorSpec) -> bool:
    """Whether these are the last three of a BatchNorm. A counter that some client has answered with floats is float64."""
    counts = not counter.is_float and counter.dtype != "BOOL"
    counts = counts or (counter.dtype == "F64" and variance.dtype != "F64")
    vectors = mean.is_float and len(mean.shape) == 1 and mean[1:] == variance[1:]
    return counts and vectors and counter.shape == ()
