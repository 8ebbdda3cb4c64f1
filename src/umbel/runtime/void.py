"""Why a round was void, in words, and whose updates stand out. Knows norms and names; reads no contents."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from umbel.wire import short, shorten

__all__ = ["STANDS_OUT", "why_void"]

STANDS_OUT = 10.0  # times the cohort's median norm


def why_void(error: Exception, strategy: str, norms: Sequence[tuple[str, float]]) -> str:
    """Says what would not have been finite, whose update stands out, and what refuses such updates.

    `norms` has each client's name with the norm of what its update changed; nothing where nobody can tell any more.

    >>> print(why_void(ValueError("too large"), "FedAvgM", [("a", 1.0), ("b", 2.0), ("c", 1e38)]))
    the round is void, the model and what the server remembers stay as they were: too large. Of 3 updates this one stands \
out: 'c' with a norm of 1e+38 (the median is 2). FedAvgM(max_update_norm="auto") refuses such updates, and so does \
max_update_norm= with a number, such as 20
    """
    said = f"the round is void, the model and what the server remembers stay as they were: {error}"
    if not norms:
        return f'{said}. {strategy}(max_update_norm="auto") refuses updates that are far from the others'
    middle = median(norm for _, norm in norms)
    largest = sorted(norms, key=lambda entry: -entry[1])
    far = [entry for entry in largest if entry[1] > STANDS_OUT * middle]
    if not far:
        client, norm = largest[0]
        return (
            f"{said}. None of {len(norms)} updates stands out: the largest norm is {norm:.4g}, of {short(client)}, and the "
            f"median {middle:.4g}; lower the learning rates, on the server and on the clients"
        )
    shown = shorten([f"{short(client)} with a norm of {norm:.4g}" for client, norm in far])
    which = "this one stands out" if len(far) == 1 else "these stand out"
    number = f", such as {STANDS_OUT * middle:.4g}" if middle > 0 else ""
    return (
        f"{said}. Of {len(norms)} updates {which}: {shown} (the median is {middle:.4g}). "
        f'{strategy}(max_update_norm="auto") refuses such updates, and so does max_update_norm= with a number{number}'
    )
