"""The classic interface of a strategy: six methods, and two for rounds of several exchanges. Knows no run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from umbel.dialogue import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
)
from umbel.pace import Pace
from umbel.rounds.exchanges import FIT, Exchange
from umbel.strategies.algorithm import CLASSIC_PACE, Receives
from umbel.strategies.clients import ClientManager, ClientProxy
from umbel.strategies.numbers import Number
from umbel.suggest import SuggestsKeywords

__all__ = ["Answers", "FailedResult", "Strategy"]

FailedResult = tuple[ClientProxy, FitRes] | tuple[ClientProxy, EvaluateRes] | BaseException
# By name, what the exchanges of a round were answered that have closed, in task order.
Answers = Mapping[str, Sequence[tuple[ClientProxy, FitRes | EvaluateRes | GetPropertiesRes]]]


class Strategy(metaclass=SuggestsKeywords):
    """The classic interface: six questions that a run asks its owner.

    An answer is journaled. A run that is resumed does not ask again, and attributes are lost with its server. What a
    strategy has to remember is in its `facts`: plain numbers by name, which its class declares with their first values, or
    `self.facts = {...}` in its `__init__`. What `aggregate_fit`, `evaluate` and `aggregate_evaluate` change there is kept
    with what they answer, goes back where the run goes back to an older version, and is there again after a resume. A method
    that raises changes none. Arrays are remembered by an optimizer, as slots.

    `receives` says what its `aggregate_fit` needs, in the class that has the method or in one derived from it:

    - "sum": no update by itself, only what Umbel's own strategies make of all of them. Simulation workers add updates up.
    - "updates": each update. One that is not like the model, or not finite, is refused, and its client is told why.
    - "anything": each update, as its client sent it; updates, and the model that they make, may change names, number and
      shapes of their arrays, and their values may be whatever they are.
    - None, which is what an `aggregate_fit` has whose class says nothing, such as one written for Flower: each update can
      be read, as its client sent it, and may also have been added up. Umbel's own `aggregate_fit`, where it is called with
      one that is not like the model, or not finite, takes it for a failure. The model keeps its form.
    """

    min_available_clients = 1
    receives: Receives | None = None
    facts: dict[str, Number] = {}  # noqa: RUF012  # each strategy that is made has its own

    @property
    def pace(self) -> Pace:
        """When a round closes."""
        return CLASSIC_PACE

    @abstractmethod
    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """The first global parameters; None asks one of the clients."""

    @abstractmethod
    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> Sequence[tuple[ClientProxy, FitIns]]:
        """Who trains in this round, on which parameters, with which config. Empty skips the training."""

    @abstractmethod
    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[FailedResult],
    ) -> tuple[Parameters | None, dict[str, object]]:
        """The next global parameters, None keeping the present ones, and metrics. Results are in task order."""

    @abstractmethod
    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> Sequence[tuple[ClientProxy, EvaluateIns]]:
        """Who evaluates in this round. Empty skips the evaluation."""

    @abstractmethod
    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[FailedResult],
    ) -> tuple[object, dict[str, object]]:
        """The distributed loss, None for none, and metrics. Results are in task order."""

    @abstractmethod
    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, object]] | None:
        """Loss and metrics on the server's own data, None where it has none."""

    # ---- rounds of several exchanges

    exchanges: Sequence[Exchange] = (FIT,)  # what a round asks of clients before its step, in order; one of them is `FIT`

    def configure_exchange(
        self,
        exchange: str,
        server_round: int,
        parameters: Parameters,
        client_manager: ClientManager,
        answers: Answers,
    ) -> Sequence[tuple[ClientProxy, FitIns | EvaluateIns | GetPropertiesIns]]:
        """Who takes part in the exchange of this name, on which parameters, with which config. Empty skips it.

        `client_manager` has the clients among whom the exchange may choose; `answers` has the exchanges before it, by name.
        """
        return self.configure_fit(server_round, parameters, client_manager)

    def aggregate_exchanges(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[FailedResult],
        answers: Answers,
    ) -> tuple[Parameters | None, dict[str, object]]:
        """What `aggregate_fit` says, where the step needs the answers of other exchanges than `FIT`, too."""
        return self.aggregate_fit(server_round, results, failures)
