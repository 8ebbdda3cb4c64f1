"""A callback out of functions, for what is one line."""

from __future__ import annotations

from collections.abc import Callable

from umbel.callbacks.base import Callback
from umbel.keywords import checked

__all__ = ["LambdaCallback"]


class LambdaCallback(Callback):
    """A callback whose methods are the functions that it is given.

    >>> end = LambdaCallback(on_round_end=lambda round, logs: print(round, logs["loss"]))
    >>> end.on_round_end(3, {"loss": 0.5})
    3 0.5
    """

    @checked
    def __init__(
        self,
        *,
        on_run_begin: Callable[..., object] | None = None,
        on_round_begin: Callable[..., object] | None = None,
        on_client_result: Callable[..., object] | None = None,
        on_evaluate_end: Callable[..., object] | None = None,
        on_round_end: Callable[..., object] | None = None,
        on_run_end: Callable[..., object] | None = None,
    ) -> None:
        given = {
            "on_run_begin": on_run_begin,
            "on_round_begin": on_round_begin,
            "on_client_result": on_client_result,
            "on_evaluate_end": on_evaluate_end,
            "on_round_end": on_round_end,
            "on_run_end": on_run_end,
        }
        vars(self).update({name: function for name, function in given.items() if function is not None})
