"""The classic aggregation functions on lists of arrays, with Umbel's order and precision."""

from __future__ import annotations

from math import nan

from umbel.aggregators import chunk_size, mean
from umbel.dialogue import Parameters
from umbel.fold import Contribution, combine, in_memory
from umbel.optimizers import sgd
from umbel.params import NDArrays, Params, as_arrays, named_as, schema_of
from umbel.strategies.averages import average_metrics
from umbel.wire import short, shorten

__all__ = ["aggregate", "weighted_loss_avg"]


def aggregate(results: list[tuple[NDArrays, int]]) -> NDArrays:
    """The mean of lists of arrays, weighted by their numbers of examples; mappings are added up by name.

    Raises `ValueError` where there is nothing to average: no results, all weights 0, or names or shapes that differ.

    >>> import numpy as np
    >>> aggregate([([np.array([0.0])], 1), ([np.array([4.0])], 3)])[0].tolist()
    [3.0]
    """
    names = schema_of(as_arrays(results[0][0])).names if results else ()
    updates = [(Params.of(named_as(as_arrays(arrays), names)), count) for arrays, count in results]
    shapes = [[spec.shape for spec in params.schema.specs] for params, _ in updates]
    if not updates or any(other != shapes[0] for other in shapes):
        raise ValueError(f"only results of the same shapes have a mean; got {len(updates)} of shapes {shapes[:8]}")
    schema = updates[0][0].schema
    if any(params.schema.names != schema.names for params, _ in updates):
        raise ValueError(f"only results of the same names have a mean; the first has {shorten([*map(short, schema.names)])}")
    contributions = [Contribution(i, p.schema, in_memory(p), count) for i, (p, count) in enumerate(updates)]
    blocks = combine(
        schema,
        None,
        contributions,
        aggregator=mean(),
        optimizer=sgd(),
        chunk=chunk_size(len(results)),
    )
    return Parameters.lazy(schema, lambda: blocks).arrays()


def weighted_loss_avg(results: list[tuple[int, float]]) -> float:
    """The mean of the finite losses, weighted by numbers of examples; NaN where none is finite.

    >>> weighted_loss_avg([(1, 1.0), (3, 2.0), (5, float("inf"))])
    1.75
    """
    mean_loss = average_metrics([(count, {"loss": loss}) for count, loss in results]).get("loss")
    return mean_loss if isinstance(mean_loss, float) else nan
