"""A callback: methods that are called as a run goes on, and what they can look at. Knows no events and no threads."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeAlias

from umbel.callbacks.course import Course
from umbel.named import NamedArrays
from umbel.runtime.observers.history import History
from umbel.runtime.saved import MakeModel, read_whole
from umbel.suggest import SuggestsKeywords

__all__ = ["Callback", "Logs"]

Logs: TypeAlias = Mapping[str, object]


_OURS = {"_epoch_": "_round_", "_train_": "_run_", "_test_": "_evaluate_", "_fit_": "_run_"}  # for the words of others


class Callback(metaclass=SuggestsKeywords):
    """Base of callbacks: override what you need, and give `callbacks=[MyCallback()]`.

    >>> class Prints(Callback):
    ...     def on_round_end(self, round, logs):
    ...         print(f"round {round}: loss {logs['loss']:.3f}")
    >>> Prints().on_round_end(1, {"loss": 0.25})
    round 1: loss 0.250

    - A callback sees a run and cannot steer it: what it raises, returns or changes stays its own. The log names a
      callback that raises, once, and it is called no more. `EarlyStopping` ends a run because it is a rule of the run.
    - A method `on_…` that nobody would call, such as `on_epoch_end`, is a `TypeError` that names the nearest.
    - Callbacks have a thread of their own, which the run does not wait for before its end (docs/observers.md).
    - A run that goes on reports each round once: `on_run_begin` says from where, and `self.history` has what was before.
    """

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and not any(hasattr(base, name) for base in cls.__mro__[1:]):
                close = get_close_matches(_of_rounds(name), known, n=1)
                remedy = f"did you mean {close[0]!r}? " if close else ""
                all_ours = ", ".join(known)
                raise TypeError(f"{cls.__name__} has a method {name!r}, which no run calls; {remedy}There are {all_ours}")

    _course: Course | None = None
    make_model: MakeModel | None = None  # of its framework

    @property
    def history(self) -> History:
        """The History up to the moment of which the callback is told, which may lie behind the run."""
        return self._followed().history

    @property
    def parameters(self) -> NamedArrays:
        """The model of that moment: a list of arrays that knows their names, read and copied when it is asked for.

        Raises `LookupError` where there is no model so far.
        """
        return read_whole(self._followed().content()).arrays()

    @property
    def model(self) -> object:
        """The model of that moment as one of its framework, with `fl.federate` and in simulations of a framework's client.

        Raises `LookupError` where it is not known: `umbel.frameworks` has `load(model, self.parameters)`.
        """
        if self.make_model is None:
            raise LookupError(
                "how a model is made of the parameters is not known here: fl.federate and the clients of umbel.frameworks "
                "say it. Put them into a model of your own: umbel.frameworks has load(model, self.parameters)"
            )
        return self.make_model(self.parameters)

    def on_run_begin(self, logs: Logs) -> None:
        """A run begins or, with logs["resumed"], goes on.

        `logs` has "run", "num_rounds", "resumed", and "round": the last round that was done before, 0 for a new run.
        """

    def on_round_begin(self, round: int, logs: Logs) -> None:
        """A round begins; `logs` has "num_rounds"."""

    def on_client_result(self, round: int, client: str, logs: Logs) -> None:
        """A client's answer counts. `logs` has its metrics, "kind" ("fit" or "evaluate"), "num_examples", "seconds" and,
        where the client has evaluated, "loss". It is text and numbers from strangers.
        """

    def on_evaluate_end(self, round: int, logs: Logs) -> None:
        """The clients, or the owner's `evaluate_fn`, have evaluated: `logs` has "loss" and metrics, or "central loss" and
        "central accuracy". Round 0 is before the first.
        """

    def on_round_end(self, round: int, logs: Logs) -> None:
        """A round is done. `logs` has its row of the History's table: "loss", "accuracy", "central loss", "fit error", …"""

    def on_run_end(self, logs: Logs) -> None:
        """The run is over, or this process leaves it.

        `logs` has "status" ("finished", "stopped", "failed" or "interrupted"), "why" and "rounds".
        """

    def _followed(self) -> Course:
        if self._course is None:
            raise RuntimeError(f"{type(self).__name__} is not part of a run so far: give it as callbacks=[…]")
        return self._course


def _of_rounds(name: str) -> str:
    for theirs, ours in _OURS.items():
        name = name.replace(theirs, ours)
    return name
