"""Calls people's own `train(model, data)` and `test(model, data)`, and reads what they return. Knows no framework.

The first argument is the model, the second the data, where there are any; all others are filled by their names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, NamedTuple

from umbel.dialogue import Metrics, plain_scalar

__all__ = ["Call", "Tested", "Trained", "read_test", "read_train"]

NOTHING = object()  # no data were given
_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
Values = Mapping[str, Callable[[], object]]  # what arguments may be called, and what makes their values


@dataclass(frozen=True)
class Call:
    """A function of people's own, with its signature read once."""

    name: str
    function: Callable[..., object]
    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, name: str, function: object, data: object) -> Call:
        """Raises `TypeError` for what cannot be called with a model, and data where there are any."""
        if not callable(function):
            raise TypeError(f"{name}= is a {type(function).__name__}; give a function, such as def {name}(model, data)")
        try:
            parameters = tuple(inspect.signature(function).parameters.values())
        except ValueError:  # built in, without a signature
            parameters = (Parameter("model", Parameter.POSITIONAL_ONLY), Parameter("data", Parameter.POSITIONAL_ONLY))
        if not any(p.kind is Parameter.VAR_POSITIONAL for p in parameters):
            by_place = [p.name for p in parameters if p.kind in _BY_PLACE]
            if not by_place:
                raise TypeError(f"{name}() takes no model; it takes the model and the data: def {name}(model, data)")
            if len(by_place) == 1 and data is not NOTHING:
                model = by_place[0]
                remedy = f"write def {name}({model}, data), or leave data= out"
                raise TypeError(f"{name}({model}) takes the model only, and data= was given; {remedy}")
        return cls(name, function, parameters)

    def bound(self, data: object, values: Values, config: Mapping[str, object]) -> Callable[[object], object]:
        """The function of a model alone: data and named arguments are in place. Nothing of people's own is called here.

        Raises `TypeError` for a required argument that nothing gives, with the names that there are.
        """
        given = 1 if data is NOTHING else 2
        by_place = [p for p in self.parameters if p.kind in _BY_PLACE]
        rest = [*by_place[given:], *(p for p in self.parameters if p.kind is Parameter.KEYWORD_ONLY)]
        named: dict[str, object] = {}
        for parameter in rest:
            name = parameter.name
            if name in values:
                named[name] = values[name]()
            elif name in config:
                named[name] = config[name]
            elif parameter.default is Parameter.empty:
                raise TypeError(self._unknown(name, data, values, config))
        positional = () if data is NOTHING else (data,)
        return lambda model: self.function(model, *positional, **named)

    def _unknown(self, name: str, data: object, values: Values, config: Mapping[str, object]) -> str:
        keys = f"the config's {', '.join(sorted(config))}" if config else "the keys of the config, which has none"
        remedy = f", or give data= if {name} is the data" if data is NOTHING else ""
        return (
            f"{self.name}() has an argument {name!r} that nothing gives; there are {', '.join(sorted(values))} and {keys}. "
            f"Give it a default, or send it with the strategy's on_fit_config_fn{remedy}"
        )


class Trained(NamedTuple):
    """What `train` said: its new model, where it returned one; how many examples, where it said so; its metrics."""

    model: object | None
    num_examples: int | None
    metrics: Metrics


class Tested(NamedTuple):
    """What `test` said."""

    loss: float
    metrics: Metrics
    num_examples: int | None = None


def read_train(returned: object, is_model: Callable[[object], bool]) -> Trained:
    """None, the model, a number of examples, metrics, or a tuple of these in this order. Raises `TypeError` for others.

    A number that is no whole one is taken for the loss.

    >>> read_train((10, {"loss": 0.5}), lambda value: False)
    Trained(model=None, num_examples=10, metrics={'loss': 0.5})
    """
    if returned is None:
        return Trained(None, None, {})
    if is_model(returned):
        return Trained(returned, None, {})
    rest = list(returned) if isinstance(returned, tuple) else [returned]
    model: object | None = None
    num_examples: int | None = None
    metrics: Metrics = {}
    if rest and is_model(rest[0]):
        model = rest.pop(0)
    if rest and isinstance(count := as_number(rest[0]), int):
        num_examples = count
        rest.pop(0)
    if rest and isinstance(said := rest[0], Mapping):
        metrics = as_metrics(said)
        rest.pop(0)
    elif len(rest) == 1 and isinstance(loss := as_number(rest[0]), float):
        metrics = {"loss": loss}
        rest.pop()
    if rest:
        raise TypeError(
            f"train() returned {_kinds(returned)}; return nothing, the model, a number of examples, a dict of metrics, or a "
            "tuple of these in this order"
        )
    return Trained(model, num_examples, metrics)


def read_test(returned: object) -> Tested:
    """A loss, (loss, metrics), (loss, accuracy), (loss, num_examples, metrics), or a dict of metrics with "loss".

    Raises `TypeError` for others.

    >>> read_test((0.5, 0.9))
    Tested(loss=0.5, metrics={'accuracy': 0.9}, num_examples=None)
    """
    if isinstance(returned, Mapping):
        metrics = as_metrics(returned)
        loss = as_number(metrics.pop("loss", None))
        if loss is None:
            raise TypeError(f'test() returned a dict without "loss": {_names(metrics)}; return the loss with the metrics')
        return Tested(float(loss), metrics)
    first, *rest = returned if isinstance(returned, (tuple, list)) else (returned,)
    loss = as_number(first)
    if loss is not None and not rest:
        return Tested(float(loss), {})
    if loss is not None and len(rest) == 1 and isinstance(rest[0], Mapping):
        return Tested(float(loss), as_metrics(rest[0]))
    if loss is not None and len(rest) == 1 and (accuracy := as_number(rest[0])) is not None:
        return Tested(float(loss), {"accuracy": float(accuracy)})
    if loss is not None and len(rest) == 2 and isinstance(count := as_number(rest[0]), int) and isinstance(rest[1], Mapping):
        return Tested(float(loss), as_metrics(rest[1]), count)
    raise TypeError(f'test() returned {_kinds(returned)}; return the loss, (loss, metrics), or a dict with "loss"')


def as_metrics(values: Mapping[Any, object]) -> Metrics:
    """With tensors and arrays of one element as numbers; what else cannot travel is found where metrics are checked."""
    return {str(name): value if (number := as_number(value)) is None else number for name, value in values.items()}  # type: ignore[misc]  # values are checked where metrics are


def as_number(value: object) -> int | float | None:
    """A Python number, or the one element of a numpy scalar, a tensor or an array of any framework; None for others.

    >>> as_number(3), as_number([1])
    (3, None)
    """
    plain = plain_scalar(value)
    if not isinstance(plain, (int, float)) and getattr(plain, "size", None) == 1:  # numpy's and JAX's, of shape (1,)
        plain = plain_scalar(getattr(plain, "item", lambda: None)())
    return plain if isinstance(plain, (int, float)) and not isinstance(plain, bool) else None


def _kinds(returned: object) -> str:
    if isinstance(returned, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in returned)})"
    return f"a {type(returned).__name__}"


def _names(metrics: Metrics) -> str:
    return ", ".join(metrics) or "nothing"
