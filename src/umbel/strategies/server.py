"""The classic `Server`: a strategy with its client manager. The rounds themselves are not a server's to run here."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.errors import StrategyError
from umbel.keywords import check_fields
from umbel.strategies.base import Strategy
from umbel.strategies.clients import ClientManager

__all__ = ["Server", "refuse_own_rounds"]


@dataclass(eq=False)
class Server:
    """A strategy with its client manager, as some programs hand them in together.

    A subclass may hold what it likes, but run no rounds: `fit`, `fit_round`, `evaluate_round` and the like are refused by
    name when the run starts, because a run that survives its server asks a strategy.
    """

    client_manager: ClientManager | None = None
    strategy: Strategy | None = None

    def __post_init__(self) -> None:
        check_fields(self)


# What the classic server does itself, and where it is asked here.
_INSTEAD = {
    "fit": "configure_fit() and aggregate_fit() are asked in each round, evaluate() after it",
    "fit_round": "put what comes before the training into configure_fit(), and what comes after it into aggregate_fit()",
    "evaluate_round": (
        "put what comes before the evaluation into configure_evaluate(), and what comes after it into aggregate_evaluate()"
    ),
    "disconnect_all_clients": "clients hear of the end of the run and leave by themselves; start_server() returns then",
    "_get_initial_parameters": "initialize_parameters() gives the first parameters",
    "set_max_workers": "client_resources= and workers= of start_simulation() say how many clients work at a time",
    "set_strategy": "give the strategy when the server is made",
    "client_manager": "give the client manager as client_manager= when the server is made",
}


def refuse_own_rounds(server: object) -> None:
    """Raises `StrategyError`, naming the method and the way out, where a server does itself what a strategy is asked."""
    for name, instead in _INSTEAD.items():
        if callable(getattr(type(server), name, None)):
            raise StrategyError(
                f"server= is a {type(server).__name__}, whose {name}() would never be called: Umbel runs the rounds itself "
                f"and asks the strategy. Override the strategy's methods instead: {instead}"
            )
