"""Federated averaging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import TypedDict

from umbel.dialogue import (
    Config,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetPropertiesIns,
    GivenParameters,
    Metrics,
    MetricsAggregationFn,
    Parameters,
    Scalar,
    as_parameters,
)
from umbel.dialogue.results import Result, Round, lent
from umbel.errors import StrategyError
from umbel.keywords import checked
from umbel.pace import Pace
from umbel.params import NamedArrays
from umbel.rounds.exchanges import EVALUATE, FIT
from umbel.rounds.messages import Kind
from umbel.selectors import Selector, sample, uniform
from umbel.strategies.algorithm import CLASSIC_PACE, Algorithm, Receives, check_exchanges
from umbel.strategies.averages import average_metrics
from umbel.strategies.base import Answers, FailedResult, Strategy
from umbel.strategies.blame import by_function
from umbel.strategies.classic.received import ByManager, answers_of, results_of, round_for
from umbel.strategies.classic.standalone import Standalone
from umbel.strategies.clients import ClientManager, ClientProxy
from umbel.strategies.combining import make_step, summarize
from umbel.transforms import Chain, Transform, chain, identity
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


class Filled:
    """The value that a strategy has filled, until one of its attributes changes: to fill and check it takes 0.1 ms."""

    def __init__(self) -> None:
        self._made: Algorithm | None = None
        self._by: list[object] = []

    def __reduce__(self) -> tuple[type[Filled], tuple[()]]:
        """A copy of a strategy fills its own, and what functions a value has is in no pickle."""
        return Filled, ()

    def of(self, strategy: FedAvg) -> Algorithm:
        now = [strategy, *vars(strategy).values()]
        if self._made is None or len(now) != len(self._by) or not all(map(is_, now, self._by)):
            self._made, self._by = strategy.algorithm(), now
        return self._made


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
        self.filled = Filled()

    def algorithm(self) -> Algorithm:
        """This strategy as a value, with the attributes that it has now. A relative replaces what it is about."""
        return Algorithm(
            name=type(self).__name__,
            initial_parameters=self.initial_parameters,
            min_available=self.min_available_clients,
            exchanges=check_exchanges(type(self).__name__, self.exchanges)[:-1],
            pace=self.pace,
            select=Selector(self.num_fit_clients, sample if self._select is None else self._select.pick),
            evaluators=Selector(self.num_evaluation_clients, sample) if self.fraction_evaluate else None,
            configure=lambda here: config_of("on_fit_config_fn", self.on_fit_config_fn, here.number),
            configure_evaluate=lambda here: config_of("on_evaluate_config_fn", self.on_evaluate_config_fn, here.number),
            transform=identity() if self._transform is None else chain(self._transform),
            enough=lambda kind, results, failures: results > 0 and (self.accept_failures or not failures),
            measure=self._measure,
            evaluate=None if self.evaluate_fn is None else self._ask_evaluate_fn,
            evaluate_every=self.evaluate_every,
            receives=self.receives or "updates",
        )

    @property
    def value(self) -> Algorithm:
        """What `algorithm` gives; the same one as long as no attribute changes."""
        return self.filled.of(self)

    @property
    def pace(self) -> Pace:
        return self._complete_pace(self._pace or CLASSIC_PACE)

    def _complete_pace(self, pace: Pace) -> Pace:
        """This pace, with what the strategy's own keywords say of it."""
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
            self.algorithm()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(accept_failures={self.accept_failures})"

    def num_fit_clients(self, num_available_clients: int) -> tuple[int, int]:
        """Size of the training cohort, and how many clients must be there for it."""
        select = self._select or uniform(
            fraction=self.fraction_fit, min_clients=self.min_fit_clients, min_available=self.min_available_clients
        )
        return select.size(num_available_clients)

    def num_evaluation_clients(self, num_available_clients: int) -> tuple[int, int]:
        """Size of the evaluating cohort, and how many clients must be there for it."""
        select = uniform(
            fraction=self.fraction_evaluate,
            min_clients=self.min_evaluate_clients,
            min_available=self.min_available_clients,
        )
        return select.size(num_available_clients)

    # ---- the classic methods, as the algorithm answers them

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        return self.value.start

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, object]] | None:
        algorithm = self.value
        if algorithm.evaluate is None or server_round % algorithm.evaluate_every:
            return None
        evaluated = algorithm.evaluate(round_for(server_round), parameters)
        return None if evaluated is None else (evaluated[0], dict(evaluated[1]))

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        asked = self._configure(FIT.name, Kind.FIT, server_round, client_manager)
        return [(client, FitIns(own or parameters, config)) for client, config, own in asked]

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        asked = self._configure(EVALUATE.name, Kind.EVALUATE, server_round, client_manager)
        return [(client, EvaluateIns(own or parameters, config)) for client, config, own in asked]

    def configure_exchange(
        self,
        exchange: str,
        server_round: int,
        parameters: Parameters,
        client_manager: ClientManager,
        answers: Answers,
    ) -> Sequence[tuple[ClientProxy, FitIns | EvaluateIns | GetPropertiesIns]]:
        with lent(replace(round_for(server_round), answers=answers_of(answers))):
            if exchange == FIT.name:
                return self.configure_fit(server_round, parameters, client_manager)
            kind = next((each.kind for each in self.exchanges if each.name == exchange), Kind.FIT)
            asked = self._configure(exchange, kind, server_round, client_manager)
        if kind is Kind.PROPERTIES:
            return [(client, GetPropertiesIns(config)) for client, config, _ in asked]
        make = EvaluateIns if kind is Kind.EVALUATE else FitIns
        return [(client, make(own or parameters, config)) for client, config, own in asked]

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
        here = round_for(server_round, results, self._standalone)
        return make_step(self.value, here, results_of(results, here), len(failures))

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[FailedResult],
    ) -> tuple[object, dict[str, object]]:
        return summarize(self.value, results_of(results), len(failures))

    # ---- what the algorithm is made of

    def _configure(
        self, exchange: str, kind: Kind, server_round: int, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, Config, Parameters | None]]:
        """Whom the algorithm asks, of those that the client manager has."""
        samples = self._select is None or exchange == EVALUATE.name
        asking = ByManager(client_manager, exchange, kind, round_for(server_round), samples=samples)
        asked = self.value.ask(asking)
        return [(client, *each[1:]) for client, each in zip(asking.proxies(asked), asked, strict=True)]

    def _ask_evaluate_fn(self, here: Round, parameters: Parameters) -> tuple[float, Metrics] | None:
        """What the owner's function says of these parameters; None where there is none."""
        if self.evaluate_fn is None:
            return None
        evaluated: object = self.evaluate_fn(here.number, parameters.arrays(), {})
        if evaluated is None:
            return None
        if not isinstance(evaluated, (tuple, list)) or len(evaluated) != 2 or not isinstance(evaluated[1], Mapping):
            raise StrategyError(f"evaluate_fn() returned {evaluated!r}; return (loss, metrics), or None")
        return evaluated[0], dict(evaluated[1])

    def _measure(self, kind: Kind, results: Sequence[Result]) -> tuple[object, dict[str, object]]:
        """The clients' losses as one, and their metrics: by the owner's function, where there is one."""
        loss = None
        if kind is Kind.EVALUATE:
            loss = self._together([(result.num_examples, {"loss": result.loss}) for result in results]).get("loss")
        name = "fit" if kind is Kind.FIT else "evaluate"
        function: MetricsAggregationFn | None = getattr(self, f"{name}_metrics_aggregation_fn")
        if function is None:
            return loss, self._together([(result.num_examples, result.metrics) for result in results])
        keyword = f"{name}_metrics_aggregation_fn"
        return loss, by_function(keyword, function, lambda: [(r.client, r.num_examples, r.metrics) for r in results])

    def _together(self, numbers: Sequence[tuple[int, Metrics]]) -> dict[str, object]:
        """Clients' numbers as one, from their numbers of examples and what they measured."""
        return average_metrics(numbers)


def config_of(name: str, function: ConfigFn | None, server_round: int) -> Config:
    """The config that the owner's function gives for this round; an empty one without a function."""
    config = {} if function is None else function(server_round)
    if not isinstance(config, Mapping):
        raise StrategyError(f"{name}() returned {config!r}; return a dict, {{}} for none")
    return config
