"""What must be known before an estimator has parameters: its classes, features and outputs; and class labels as arrays.

Knows labels and shapes; knows no estimator and no client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from umbel.dialogue import Scalar
from umbel.frameworks.errors import ParametersMismatch
from umbel.params import DType, NDArray

__all__ = ["CLASSES", "Facts", "from_array", "heard", "to_array", "together", "told"]

CLASSES = "classes_"
_FLOAT64 = np.dtype(np.float64)


class Facts(NamedTuple):
    """What is known of an estimator's data.

    - `features`: how many columns X has
    - `classes`: the labels of a classifier, sorted, shape (classes,); None for what is no classifier
    - `outputs`: how many columns y has; None where y is one column of shape (rows,)
    - `examples`: how many rows there are in all
    - `dtype`: of X, float64 or float32
    """

    features: int
    classes: NDArray | None = None
    outputs: int | None = None
    examples: int = 0
    dtype: DType = _FLOAT64

    @classmethod
    def of(cls, x: object, y: object, *, classifies: bool) -> Facts:
        """What one owner's rows show; X is an array or a sparse matrix. Raises `ParametersMismatch` for others."""
        shape: tuple[int, ...] = getattr(x, "shape", ())
        if len(shape) != 2:
            raise ParametersMismatch(f"X has shape {tuple(shape)}; it is a table, of shape (rows, features)")
        dtype = np.dtype(np.float32) if getattr(x, "dtype", None) == np.float32 else _FLOAT64
        values = None if y is None else np.asarray(y)
        classes = np.unique(values) if classifies and values is not None else None
        outputs = values.shape[1] if values is not None and not classifies and values.ndim == 2 else None
        return cls(int(shape[1]), classes, outputs, int(shape[0]), dtype)


def together(facts: Sequence[Facts]) -> Facts:
    """What holds for all rows of several owners. Raises `ParametersMismatch` where their tables differ.

    >>> together([Facts(2, np.array([0, 3]), examples=5), Facts(2, np.array([1]), examples=4)])[:2]
    (2, array([0, 1, 3]))
    """
    first = facts[0]
    for other in facts[1:]:
        for what, mine, yours in (("features", first.features, other.features), ("outputs", first.outputs, other.outputs)):
            if mine != yours:
                raise ParametersMismatch(
                    f"one client has {mine} {what}, another has {yours}. All owners' tables have the same columns in the "
                    "same order: add those that are missing."
                )
    labels = [each.classes for each in facts if each.classes is not None]
    classes = np.unique(np.concatenate(labels)) if labels else None
    dtype = np.result_type(*(each.dtype for each in facts))
    return first._replace(classes=classes, examples=sum(each.examples for each in facts), dtype=dtype)


def told(facts: Facts) -> dict[str, Scalar]:
    """Facts as a client's properties."""
    classes = None if facts.classes is None else facts.classes.tolist()
    return {
        "features": facts.features,
        "examples": facts.examples,
        "outputs": facts.outputs or 0,
        "classes": json.dumps(classes),
        "dtype": facts.dtype.name,
    }


def heard(properties: Mapping[str, Scalar]) -> Facts:
    """What `told` has written. Raises `ParametersMismatch` for anything else."""
    try:
        labels = json.loads(str(properties["classes"]))
        return Facts(
            int(properties["features"]),
            None if labels is None else np.unique(np.array(labels)),
            int(properties["outputs"]) or None,
            int(properties["examples"]),
            np.dtype(str(properties["dtype"])),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ParametersMismatch(
            f"a client's get_properties() says nothing of its table ({error!r}); it is made by "
            "umbel.frameworks.sklearn.client(...), with data=(X, y)"
        ) from None


def to_array(classes: NDArray) -> NDArray:
    """Labels as numbers that travel: text as code points, uint32 of shape (classes, longest); the others as they are.

    >>> from_array(to_array(np.array(["cat", "horse"]))).tolist()
    ['cat', 'horse']
    """
    if classes.dtype.kind in "OU":
        if not all(isinstance(label, str) for label in classes.tolist()):
            raise ParametersMismatch(f"classes are numbers or text; got {classes.tolist()[:5]}")
        text = classes.astype(np.str_)
        return np.ascontiguousarray(text).view(np.uint32).reshape(len(text), -1)
    return classes


def from_array(labels: NDArray) -> NDArray:
    """The labels that `to_array` has written."""
    if labels.ndim != 2:
        return labels
    text = np.ascontiguousarray(labels, np.uint32)
    return text.view(f"<U{labels.shape[1]}").reshape(-1)
