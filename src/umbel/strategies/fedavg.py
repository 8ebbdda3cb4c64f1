"""Federated averaging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

import numpy as np

from umbel.aggregators import Rule, mean
from umbel.errors import StrategyError
from umbel.exchange import (
    Config,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GivenParameters,
    Metrics,
    MetricsAggregationFn,
    Parameters,
    Scalar,
    as_parameters,
)
from umbel.keywords import checked
from umbel.optimizers import sgd
from umbel.pace import Pace
from umbel.params import NamedArrays, NDArrays
from umbel.population import Clients
from umbel.selectors import Selector, uniform
from umbel.strategies.averages import average_metrics
from umbel.strategies.base import CLASSIC_PACE, FailedResult, Parts, Receives, Strategy
from umbel.strategies.blame import by_function
from umbel.strategies.clients import ClientManager, ClientProxy, SimpleClientManager
from umbel.strategies.combining import Results, Standalone, combine_results, leave_out_unfit
from umbel.strategies.sound import check_sound
from umbel.transforms import Chain, Transform, chain
from umbel.until import Until

__all__ = ["Classic", "Common", "FedAvg", "Sized", "average_metrics", "config_of"]

EvaluateFn = Callable[[int, NamedArrays, dict[str, Scalar]], tuple[float, Metrics] | None]
ConfigFn = Callable[[int], Config]


class Common(TypedDict, total=False):
    """Keywords that `FedAvg` and all its relatives take, with the same defaults."""

    fraction_fit: float
    fraction_evaluate: float
    evaluate_fn: EvaluateFn | None
    on_fit_config_fn: ConfigFn | None
    on_evaluate_config_fn: ConfigFn | None
    accept_failures: bool
    fit_metrics_aggregation_fn: MetricsAggregationFn | None
    evaluate_metrics_aggregation_fn: MetricsAggregationFn | None
    inplace: bool
    select: Selector | None
    transform: Transform | Chain | None
    pace: Pace | None
    until: Until | None
    keep_best: str | None
    evaluate_every: int
    max_update_norm: float | str | None


class Sized(Common, total=False):
    """Those, and the sizes of cohorts."""

    min_fit_clients: int
    min_evaluate_clients: int
    min_available_clients: int


class Classic(Sized, total=False):
    """All keywords of `FedAvg`."""

    initial_parameters: GivenParameters | None


class FedAvg(Strategy):
    """Each round a random part of the clients trains the global model; the next one is the mean, weighted by examples.

    x ← Σ nₖ·xₖ / Σ nₖ over the clients that answered, nₖ being their numbers of examples: McMahan et al. 2017,
    "Communication-Efficient Learning of Deep Networks from Decentralized Data", Algorithm 1.

    - `fraction_fit`, `fraction_evaluate`: part of the present clients that trains and that evaluates, 0 to 1.
      `max(int(present × fraction), min_*_clients)` are drawn; `fraction_evaluate=0` skips the evaluation.
    - `min_fit_clients`, `min_evaluate_clients`: the smallest cohorts; `min_available_clients`: how many must be present
      before anyone is drawn.
    - `evaluate_fn(round, arrays, {})` → (loss, metrics), or None: evaluation on the server's own data, after each round
      and before the first.
    - `on_fit_config_fn(round)`, `on_evaluate_config_fn(round)` → the config that the clients get.
    - `accept_failures=False`: a round in which any client fails keeps the model.
    - `initial_parameters`: where to start: `Parameters`, a list of arrays, or a mapping of names to arrays, such as
      `net.state_dict()`; None asks one client.
    - `fit_metrics_aggregation_fn`, `evaluate_metrics_aggregation_fn`: from `[(num_examples, metrics), ...]`, in task order,
      to metrics; may return any dict. Without one, finite numbers are averaged by number of examples. Where one raises, the
      round counts without these metrics, and a line says why.
    - `select`, `transform`, `pace`: other parts than its own, on this and any of its relatives: who takes part, what happens
      to an update on its way, when a round closes. `FedAdam(..., pace=Pace(goal=80, quorum=50))` over-selects, and
      `FedAvg(transform=chain(clip(1.0), int8()))` clips updates and sends a quarter of their bytes (`umbel.transforms`).
    - `until`: what ends the run before its last round: `Until(metric="accuracy", at_least=0.97)`, `Until(patience=10)`.
    - `keep_best`: the name of a metric, or "loss": the best version by it is kept to the end beside the newest.
    - `evaluate_every`: evaluation, by clients and on the server, after each k-th round only.
    - `max_update_norm`: an update that changes more than this is refused, and its client told so: a number, or "auto", ten
      times the median of the norms that were accepted in earlier rounds. A norm is the L2 norm of the whole difference.
    """

    receives: Receives | None = "sum"

    @checked
    def __init__(
        self,
        *,
        fraction_fit: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_fit_clients: int = 2,
        min_evaluate_clients: int = 2,
        min_available_clients: int = 2,
        evaluate_fn: EvaluateFn | None = None,
        on_fit_config_fn: ConfigFn | None = None,
        on_evaluate_config_fn: ConfigFn | None = None,
        accept_failures: bool = True,
        initial_parameters: GivenParameters | None = None,
        fit_metrics_aggregation_fn: MetricsAggregationFn | None = None,
        evaluate_metrics_aggregation_fn: MetricsAggregationFn | None = None,
        inplace: bool = True,
        select: Selector | None = None,
        transform: Transform | Chain | None = None,
        pace: Pace | None = None,
        until: Until | None = None,
        keep_best: str | None = None,
        evaluate_every: int = 1,
        max_update_norm: float | str | None = None,
    ) -> None:
        self.fraction_fit = fraction_fit
        self.fraction_evaluate = fraction_evaluate
        self.min_fit_clients = min_fit_clients
        self.min_evaluate_clients = min_evaluate_clients
        self.min_available_clients = min_available_clients
        self.evaluate_fn = evaluate_fn
        self.on_fit_config_fn = on_fit_config_fn
        self.on_evaluate_config_fn = on_evaluate_config_fn
        self.accept_failures = accept_failures
        self.initial_parameters = None if initial_parameters is None else as_parameters(initial_parameters)
        self.fit_metrics_aggregation_fn = fit_metrics_aggregation_fn
        self.evaluate_metrics_aggregation_fn = evaluate_metrics_aggregation_fn
        self.inplace = inplace  # read by no one: updates are combined block by block either way
        self._select = select
        self._transform = transform
        self._pace = pace
        self._until = until
        self.keep_best = keep_best
        self.evaluate_every = evaluate_every
        self.max_update_norm = max_update_norm
        self._standalone = Standalone(self.initial_parameters)

    @property
    def parts(self) -> Parts:
        """The five parts that this strategy is made of; a relative overrides what it replaces."""
        return Parts(
            select=self._select
            or uniform(
                fraction=self.fraction_fit, min_clients=self.min_fit_clients, min_available=self.min_available_clients
            ),
            transform=chain(self._transform),
            aggregator=mean(),
            optimizer=sgd(),
            pace=self._pace or CLASSIC_PACE,
        )

    @property
    def pace(self) -> Pace:
        pace = self.parts.pace
        if self._until is None and self.keep_best is None and self.max_update_norm is None:
            return pace
        return replace(
            pace,
            until=self._until or pace.until,
            keep_best=self.keep_best or pace.keep_best,
            max_update_norm=pace.max_update_norm if self.max_update_norm is None else self.max_update_norm,
        )

    def check_made(self) -> None:
        """Raises `ValueError` where `transform` does not go with what the strategy is otherwise."""
        if getattr(self, "_transform", None) is not None:
            limit = self.pace.max_update_norm
            check_sound(type(self).__name__, self.parts, receives=self.receives, max_update_norm=limit)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(accept_failures={self.accept_failures})"

    def num_fit_clients(self, num_available_clients: int) -> tuple[int, int]:
        """Size of the training cohort, and how many clients must be there for it: as many as a rule needs, at least."""
        parts = self.parts
        least = parts.aggregator.least if isinstance(parts.aggregator, Rule) else 0
        size, needed = parts.select.size(num_available_clients)
        return max(size, least), max(needed, least)

    def num_evaluation_clients(self, num_available_clients: int) -> tuple[int, int]:
        """Size of the evaluating cohort, and how many clients must be there for it."""
        select = uniform(
            fraction=self.fraction_evaluate,
            min_clients=self.min_evaluate_clients,
            min_available=self.min_available_clients,
        )
        return select.size(num_available_clients)

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        return self.initial_parameters

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, object]] | None:
        return None if server_round % self.evaluate_every else self._evaluated(server_round, parameters)

    def _evaluated(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, object]] | None:
        """What the owner's function says of these parameters, whether it is due or not; None where there is none."""
        if self.evaluate_fn is None:
            return None
        evaluated: object = self.evaluate_fn(server_round, parameters.arrays(), {})
        if evaluated is None:
            return None
        if not isinstance(evaluated, (tuple, list)) or len(evaluated) != 2 or not isinstance(evaluated[1], Mapping):
            raise StrategyError(f"evaluate_fn() returned {evaluated!r}; return (loss, metrics), or None")
        return evaluated[0], dict(evaluated[1])

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        clients = self._cohort(server_round, parameters, client_manager)
        config = config_of("on_fit_config_fn", self.on_fit_config_fn, server_round)  # once there are enough clients
        return [(client, FitIns(parameters, dict(config))) for client in clients]

    def _cohort(self, server_round: int, parameters: Parameters, client_manager: ClientManager) -> list[ClientProxy]:
        """Who trains."""
        return self._drawn(client_manager, *self._wanted(client_manager))

    def _wanted(self, client_manager: ClientManager) -> tuple[int, int]:
        """How many are to train now, and how many clients must be there for it."""
        return self.num_fit_clients(client_manager.num_available())

    def _drawn(self, client_manager: ClientManager, size: int, needed: int) -> list[ClientProxy]:
        """So many as the selector says, or the client manager's own sample where the selector is FedAvg's."""
        if self._select is None:
            return client_manager.sample(num_clients=size, min_num_clients=needed)
        client_manager.wait_for(needed)
        present = client_manager.all()
        rng = client_manager.rng if isinstance(client_manager, SimpleClientManager) else np.random.RandomState
        return [present[name] for name in self._select.pick(Clients(0, present), size, rng)]

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        if self.fraction_evaluate == 0.0 or server_round % self.evaluate_every:
            return []
        size, needed = self.num_evaluation_clients(client_manager.num_available())
        clients = client_manager.sample(num_clients=size, min_num_clients=needed)
        config = config_of("on_evaluate_config_fn", self.on_evaluate_config_fn, server_round)
        return [(client, EvaluateIns(parameters, dict(config))) for client in clients]

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[FailedResult],
    ) -> tuple[Parameters | None, dict[str, object]]:
        """The combined update as parameters that are read block by block: nothing is in memory until somebody asks.

        A result of which its server knows that it is not like the model, or not finite, is a failure.

        Raises `TooFewUpdates` where the aggregator needs more, and `StrategyError` where the results' shapes differ.
        """
        results, failures = leave_out_unfit(results, failures)
        if not results or (failures and not self.accept_failures):
            return None, {}
        weights = self._weights(server_round, results)
        made, parts = None, self.parts
        if isinstance(parts.aggregator, Rule) or any(weight > 0 for weight in weights):
            made = combine_results(
                parts,
                results,
                number=server_round,
                weights=weights,
                standalone=self._standalone,
                guide=self._guide(server_round, results),
                shares=self._shares(results),
                mixes=self._mixes,
            )
        return made, self._reported("fit_metrics_aggregation_fn", results)

    def _weights(self, server_round: int, results: Results) -> list[float]:
        """What each update weighs."""
        return [res.num_examples for _, res in results]

    _mixes = False

    def _shares(self, results: Results) -> list[float] | None:
        """How much of its change each update counts; None for all of it."""
        return None

    def _guide(self, server_round: int, results: Results) -> NDArrays | None:
        """An update of the server's own, for a rule that compares with one."""
        return None

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[FailedResult],
    ) -> tuple[object, dict[str, object]]:
        if not results or (failures and not self.accept_failures):
            return None, {}
        loss = self._together([(res.num_examples, {"loss": res.loss}) for _, res in results]).get("loss")
        return loss, self._reported("evaluate_metrics_aggregation_fn", results)

    def _reported(
        self, keyword: str, results: Sequence[tuple[ClientProxy, FitRes | EvaluateRes]]
    ) -> dict[str, object]:
        """The clients' metrics as one: by the owner's function, where the keyword has one."""
        function: MetricsAggregationFn | None = getattr(self, keyword)
        if function is None:
            return self._together([(res.num_examples, res.metrics) for _, res in results])
        return by_function(keyword, function, lambda: [(c.cid, res.num_examples, res.metrics) for c, res in results])

    def _together(self, numbers: Sequence[tuple[int, Metrics]]) -> dict[str, object]:
        """Clients' numbers as one, from their numbers of examples and what they measured."""
        return average_metrics(numbers)


def config_of(name: str, function: ConfigFn | None, server_round: int) -> Config:
    """The config that the owner's function gives for this round; an empty one without a function."""
    config = {} if function is None else function(server_round)
    if not isinstance(config, Mapping):
        raise StrategyError(f"{name}() returned {config!r}; return a dict, {{}} for none")
    return config
