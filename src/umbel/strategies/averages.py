"""Clients' numbers as one: their averages by examples, or their medians, which a minority of liars cannot move.

Knows dicts of numbers; knows no run. A NaN or an infinity is a number that is missing. Names that more clients sent come
first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from umbel.dialogue import Metrics
from umbel.dialogue.results import Result
from umbel.rounds.messages import Kind
from umbel.strategies.numbers import Number

__all__ = ["average", "average_metrics", "median_metrics", "senders_needed"]


def average(results: Sequence[Result], kind: Kind) -> tuple[object, dict[str, object]]:
    """The mean loss of an evaluation, None of a fit, and the means of what clients have measured."""
    losses = [(result.num_examples, {"loss": result.loss}) for result in results] if kind is Kind.EVALUATE else []
    loss = average_metrics(losses).get("loss")  # type: ignore[arg-type]  # mypy: a list of dicts of float is none of scalars
    return loss, average_metrics([(result.num_examples, result.metrics) for result in results])


def average_metrics(metrics: Sequence[tuple[int, Metrics]]) -> dict[str, object]:
    """Each numeric metric averaged by number of examples over the clients that sent it; equally where all counts are 0.

    Booleans count as 0 and 1. Strings and bytes have no mean and are left out, and so is what is not finite.

    >>> average_metrics([(1, {"accuracy": 1.0}), (3, {"accuracy": 0.5, "site": "A"}), (9, {"accuracy": math.nan})])
    {'accuracy': 0.625}
    """
    sent = _by_name(metrics)
    return {name: _mean(pairs) for name, pairs in sent.items()}


def median_metrics(metrics: Sequence[Metrics], liars: int | None = None) -> dict[str, object]:
    """The median of each numeric metric, each client once; of a metric that too few have sent nothing is believed.

    `liars` is how many of the clients may lie, at most; None for any minority of them.

    >>> median_metrics([{"accuracy": 0.5}, {"accuracy": 0.6, "bonus": 1.0}, {"accuracy": 1e308}])
    {'accuracy': 0.6}
    """
    needed = senders_needed(len(metrics), liars)
    if needed is None:
        return {}
    sent = _by_name([(1, values) for values in metrics])
    return {name: _median([value for _, value in pairs]) for name, pairs in sent.items() if len(pairs) >= needed}


def senders_needed(answered: int, liars: int | None = None) -> int | None:
    """How many of the clients that answered must have sent a number for its median to be believed; None: no number of them.

    With 2f + 1 numbers the median lies between two honest ones. Fewer than that are enough where no honest client can have
    kept silent: f that lie by saying nothing must not be able to take the number away from the others.

    >>> senders_needed(7, 2), senders_needed(5, 2), senders_needed(4, 2), senders_needed(5)
    (5, 3, None, 3)
    """
    if liars is None:
        return answered // 2 + 1 if answered else None
    return min(2 * liars + 1, answered - liars) if answered >= 2 * liars + 1 else None


def _by_name(metrics: Sequence[tuple[int, Mapping[str, object]]]) -> dict[str, list[tuple[int, Number]]]:
    """The finite numbers of each name, with their clients' numbers of examples."""
    sent: dict[str, list[tuple[int, Number]]] = {}
    for count, values in metrics:
        for name, value in values.items():
            if isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
                sent.setdefault(name, []).append((count, value))
    return dict(sorted(sent.items(), key=lambda item: -len(item[1])))


def _mean(pairs: Sequence[tuple[int, Number]]) -> float:
    """Σ n·v / Σ n; it is finite because the values are."""
    total = products = plain = 0.0
    for count, value in pairs:  # not sum(), which newer Pythons compensate
        total += count
        products += count * value
        plain += value
    mean = products / total if total else plain / len(pairs)
    if math.isfinite(mean):
        return mean
    # A product or a sum was too large for a float. Shares of halves add up to no more than the largest half.
    half = 0.0
    for count, value in pairs:
        half += (count / total if total else 1 / len(pairs)) * (value / 2)
    return _within(2 * half, [value for _, value in pairs])


def _median(values: Sequence[Number]) -> float:
    """The middle value, or what is half-way between the two middle ones."""
    ranked = sorted(map(float, values))
    low, high = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    return low if low == high else _within(low / 2 + high / 2, (low, high))


def _within(value: float, values: Sequence[Number]) -> float:
    return min(max(value, float(min(values))), float(max(values)))
