"""What every public keyword may be given, in one table, and the check of it before anything starts.

A new keyword of a function or class that is `@checked` gets a line in `TAKES`, under its name, or under "owner.name" where
another owner means something else by that name; `forms.py` has what can stand there. A dataclass calls `check_fields`.
tests/test_keywords.py walks all public keywords and names each that has no line. What depends on two keywords at once is
checked by their owner.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import ParamSpec, TypeVar

from umbel.forms import (
    Form,
    anything,
    either,
    flag,
    function,
    functions,
    instance,
    maker,
    mapping,
    names,
    objects,
    one_of,
    parameters,
    path,
    pem,
    real,
    several,
    some_of,
    text,
    whole,
)
from umbel.suggest import unknown_keyword

__all__ = ["ANOTHER_STRATEGY", "TAKES", "check_fields", "checked", "checked_raising", "form_of"]

P = ParamSpec("P")
R = TypeVar("R")

_PRESENT = real("a part of the present clients, from 0 to 1", least=0, most=1)
_COHORT = real("a part of the cohort, from 0 to 1", least=0, most=1)
_KEPT = real("the part of the past that is kept, at least 0 and below 1", least=0, below=1)
_RATE = real("a number above 0", above=0)
_SECONDS = real("a number of seconds above 0, 1e9 at most", above=0, most=1e9)
_CLIENTS = whole(0, of="of clients")
_ROUNDS = whole(1, of="of rounds")
_METRIC = text("'loss' or the name of a metric", "'accuracy'")
_NUMBER = real("a finite number")
_METRICS_FN = function("[(num_examples, metrics), …]", returns="metrics")
_UNTIL = instance("umbel.until:Until", "Until(metric='accuracy', at_least=0.97)")
_STRATEGY = instance(
    "umbel.strategies.base:Strategy", "FedAvg()", says="a strategy", has="weigh", among="umbel.server.strategy"
)
ANOTHER_STRATEGY = instance(
    "umbel.strategies.fedavg:FedAvg", "FedAvg()", says="a strategy with FedAvg's parts", among="umbel.server.strategy"
)


def _rate_or_schedule() -> Form:
    """A learning rate, or a function of the round."""
    schedule = function("round", returns="the rate")
    says = "a number above 0, or a function of the round"
    return Form(says, lambda value: (schedule if callable(value) else _RATE).read(value))


def _norm() -> Form:
    """A limit of updates' norms: a number, or "auto"."""
    says = "a number above 0, 'auto'"
    return Form(says, lambda value: value if isinstance(value, str) and value == "auto" else _RATE.read(value))


TAKES: Mapping[str, Form] = {
    # ---- a run
    "config": instance("umbel.config:ServerConfig", "ServerConfig(num_rounds=3)").or_none("one round"),
    "num_rounds": whole(0, of="of rounds"),
    "round_timeout": _SECONDS.or_none("no limit"),
    "strategy": _STRATEGY.or_none("FedAvg()"),
    "client_manager": instance("umbel.strategies.clients:ClientManager", "SimpleClientManager()").or_none("the usual one"),
    "server": instance("umbel.strategies.server:Server", "Server(strategy=FedAvg())", has="strategy").or_none("none"),
    "seed": whole(None),
    "store": path("a folder, or the URL of a database", "'umbel-runs'").or_none("nothing is kept"),
    "fresh": flag(),
    "max_examples": whole(1, of="of examples"),
    "max_bytes": whole(1, of="of bytes").or_none("what the disk can hold twice"),
    # ---- start_server
    "server_address": text("host:port", "'127.0.0.1:8080'"),
    "certificates": pem("ca", "certificate", "key").or_none("no TLS"),
    "require_client_certificate": flag(),
    "require_identity": flag(),
    "durability": one_of("process", "power"),
    "keep_rounds": _ROUNDS.or_none("all of them"),
    "store_patience": real("a number of seconds, 0 to 1e9", least=0, most=1e9),
    "lease": _SECONDS,
    "trusted_proxies": names("an address, a network, or a list of them", "['127.0.0.1']", one=True),
    "audit": flag(),
    "grpc_max_message_length": anything(),
    "observers": functions("event", returns="None"),
    "callbacks": objects("umbel.callbacks.base:Callback", "EarlyStopping(patience=3)", among="umbel.callbacks"),
    "report_to": some_of("csv", "mlflow", "tensorboard", "trackio", "wandb").or_none("no tracker"),
    "max_metrics": whole(0, of="of metrics"),
    "max_metrics_size": whole(0, of="of bytes"),
    # ---- start_client
    "client": instance("umbel.training:Client", "MyClient()", says="a NumPyClient or a Client", has="to_client").or_none(
        "client_fn="
    ),
    "client_fn": maker(),
    "start_client.client_fn": maker().or_none("client="),
    "root_certificates": pem("ca").or_none("no TLS, or the CAs that the system trusts"),
    "client_certificate": pem("certificate", "key").or_none("no certificate"),
    "insecure": flag().or_none("TLS where there are certificates"),
    "max_retries": whole(0, of="of retries").or_none("no limit"),
    "max_wait_time": _SECONDS.or_none("no limit"),
    "client_id": text("a name", "'hospital-1'").or_none("a name by chance"),
    "join_token": text("what `umbel server token` has printed").or_none("the environment's UMBEL_JOIN_TOKEN"),
    "identity": path("the file of the client's key", "'identity.pem'").or_none("umbel-identity/CLIENT_ID.pem"),
    "transport": anything(),
    # ---- start_simulation
    "num_clients": whole(1, of="of clients").or_none("clients_ids="),
    "clients_ids": names("a list of names", "['a', 'b']").or_none("num_clients="),
    "client_resources": mapping("a dict of what a client needs", "{'num_cpus': 1, 'num_gpus': 0.25}").or_none("one CPU"),
    "backend": one_of("auto", "inline", "processes", "ray"),
    "workers": whole(1, of="of workers").or_none("as many as processors"),
    "threads": whole(1, of="of threads"),
    "progress": flag().or_none("a bar on a terminal"),
    "durations": function("client", "round", returns="seconds").or_none("no simulated time"),
    "ray_init_args": mapping("a dict of keywords for ray.init", "{'address': 'auto'}").or_none("none"),
    "keep_initialised": anything(),
    "actor_type": anything(),
    "actor_kwargs": anything(),
    "actor_scheduling": anything(),
    # ---- federate
    "address": text("host:port", "'127.0.0.1:8080'"),
    "clients": either(whole(1, of="of clients"), names("a list of their names", "['a', 'b']")).or_none("what the data say"),
    "rounds": whole(0, of="of rounds"),
    "simulate.strategy": either(_STRATEGY, text("the name of one")),
    "serve.strategy": either(_STRATEGY, text("the name of one")),
    "data": anything(),
    # ---- Pace, Until
    "goal": whole(1, of="of updates").or_none("the whole cohort"),
    "quorum": whole(0, of="of updates"),
    "deadline": _SECONDS.or_none("no deadline"),
    "retries": whole(0, of="of retries"),
    "carry_over": flag(),
    "max_staleness": whole(0, of="of rounds").or_none("no limit"),
    "until": _UNTIL.or_none("nothing"),
    "keep_best": _METRIC.or_none("no version"),
    "metric": _METRIC,
    "at_least": _NUMBER.or_none("no target"),
    "at_most": _NUMBER.or_none("no target"),
    "patience": _ROUNDS.or_none("no limit"),
    "min_delta": real("a number, 0 or more", least=0),
    "mode": one_of("auto", "min", "max"),
    # ---- callbacks
    "monitor": _METRIC,
    "EarlyStopping.patience": _ROUNDS,
    "ModelCheckpoint.path": path("a file, whose name may have {round}, {run} and metrics", "'model-{round}.safetensors'"),
    "save_best_only": flag(),
    "CSVLogger.path": path("a file, whose name may have {run}", "'rounds.csv'"),
    "separator": text("what stands between two columns", "','"),
    "on_run_begin": function("logs", returns="None").or_none("nothing"),
    "on_round_begin": function("round", "logs", returns="None").or_none("nothing"),
    "on_client_result": function("round", "client", "logs", returns="None").or_none("nothing"),
    "on_evaluate_end": function("round", "logs", returns="None").or_none("nothing"),
    "on_round_end": function("round", "logs", returns="None").or_none("nothing"),
    "on_run_end": function("logs", returns="None").or_none("nothing"),
    "seconds": _SECONDS.or_none("no limit"),
    # ---- strategies, all of them
    "fraction_fit": _PRESENT,
    "fraction_evaluate": _PRESENT,
    "min_fit_clients": _CLIENTS,
    "min_evaluate_clients": _CLIENTS,
    "min_available_clients": _CLIENTS,
    "evaluate_fn": function("round", "arrays", "config", returns="(loss, metrics), or None").or_none("no evaluation"),
    "on_fit_config_fn": function("round", returns="a dict").or_none("an empty config"),
    "on_evaluate_config_fn": function("round", returns="a dict").or_none("an empty config"),
    "accept_failures": flag(),
    "initial_parameters": parameters("net.state_dict()").or_none("those of a client"),
    "fit_metrics_aggregation_fn": _METRICS_FN.or_none("their averages"),
    "evaluate_metrics_aggregation_fn": _METRICS_FN.or_none("their averages"),
    "inplace": flag(),
    "select": instance("umbel.selectors:Selector", "everyone()").or_none("uniform"),
    "transform": instance("umbel.transforms:Transform", "clip(1.0)", has="links").or_none("none"),
    "pace": instance("umbel.pace:Pace", "Pace(goal=10)").or_none("the strategy's own"),
    "evaluate_every": _ROUNDS,
    "max_update_norm": _norm().or_none("no limit"),
    # ---- some strategies
    "server_learning_rate": _rate_or_schedule(),
    "server_momentum": _KEPT,
    "averaged": names("a list of patterns of names, or positions", "['*.running_var', 7]").or_none("what its name tells"),
    "eta": _rate_or_schedule(),
    "eta_l": _RATE,
    "beta_1": _KEPT,
    "beta_2": _KEPT,
    "tau": real("what is added to a square root, 0 or more", least=0),
    "beta": real("a part to cut off on each side, at least 0 and below 0.5", least=0, below=0.5),
    "num_malicious_clients": _CLIENTS,
    "num_clients_to_keep": _CLIENTS,
    "MultiKrum.num_clients_to_keep": whole(1, of="of clients").or_none("all but num_malicious_clients"),
    "first_aggregation_rule": anything(),
    "to_keep": _CLIENTS,
    "iterations": whole(1, of="of iterations"),
    "smoothing": _RATE,
    "by_examples": flag(),
    "clipping_radius": _RATE,
    "root_fit": function("round", "arrays", returns="arrays"),
    "bucket_size": whole(1, of="of updates"),
    "Bucketing.strategy": ANOTHER_STRATEGY,
    "NearestNeighbourMixing.strategy": ANOTHER_STRATEGY,
    "PowerOfChoice.strategy": ANOTHER_STRATEGY,
    "candidates": whole(1, of="of clients"),
    "buffer_size": whole(1, of="of updates"),
    "concurrency": whole(1, of="of clients"),
    "staleness": function("rounds", returns="the share that counts"),
    "mixing": real("how much of the new model comes from an update, above 0, at most 1", above=0, most=1),
    "q_param": real("a number, 0 or more", least=0),
    "qffl_learning_rate": _RATE,
    "proximal_mu": real("the weight of a penalty, 0 or more", least=0),
    "min_completion_rate_fit": _COHORT,
    "min_completion_rate_evaluate": _COHORT,
    "evaluate_function": function("round", "parameters", "config", returns="(loss, metrics)").or_none("evaluate_fn="),
    # ---- an algorithm as a value
    "Algorithm.name": text("what messages call it", "'FedAvg'"),
    "Algorithm.select": instance("umbel.selectors:Selector", "everyone()"),
    "Algorithm.concurrency": whole(1, of="of clients").or_none("as many as are selected"),
    "Algorithm.evaluate": function("round", "parameters", returns="(loss, metrics), or None").or_none("no evaluation"),
    "Algorithm.transform": instance("umbel.transforms:Transform", "clip(1.0)", has="links"),
    "Algorithm.pace": instance("umbel.pace:Pace", "Pace(goal=10)"),
    "exchanges": several("umbel.rounds.exchanges:Exchange", "[FIT]", says="a list of exchanges"),
    "evaluators": instance("umbel.selectors:Selector", "everyone()").or_none("no evaluation by clients"),
    "cohort": function("asking", returns="names").or_none("whom select= says"),
    "in_turns": flag(),
    "choose": function("asking", returns="a list of Ask, or None").or_none("whom select= says"),
    "configure": function("round", returns="a dict"),
    "configure_evaluate": function("round", returns="a dict"),
    "weigh": function("round", "results", returns="a weight for each result"),
    "shares": function("round", "results", returns="a share for each result").or_none("all of each change"),
    "mixes": flag(),
    "guide": function("round", "results", returns="arrays").or_none("no update of the server's own"),
    "aggregator": instance("umbel.aggregators:Aggregator", "mean()", says="an Aggregator or a Rule", has="reduce"),
    "optimizer": instance("umbel.optimizers:Optimizer", "sgd()"),
    "parts": mapping("a dict of parts by name", "{'control': Part()}").or_none("nothing beside the model"),
    "combine": function("round", "results", returns="Combined").or_none("weights, an aggregator and an optimizer"),
    "enough": function("kind", "results", "failures", returns="whether they count"),
    "measure": function("kind", "results", returns="(loss, metrics)"),
    "receives": one_of("sum", "updates", "anything"),
    "facts": mapping("a dict of plain numbers", "{'rate': 0.1}").or_none("none"),
    "advance": function("round", "loss", "metrics", returns="the facts that change").or_none("facts that stay"),
    # ---- selectors
    "fraction": _PRESENT,
    "min_clients": _CLIENTS,
    "min_available": _CLIENTS,
    "weight": function("name", returns="its weight"),
    "able": function("name", returns="whether it takes part"),
    "selector": instance("umbel.selectors:Selector", "everyone()"),
}


def form_of(owner: str, name: str) -> Form | None:
    """What this keyword of that function or class takes; None where the table does not have it."""
    return TAKES.get(f"{owner}.{name}") or TAKES.get(name)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, or `__init__`, with its arguments checked against the table, which makes plain numbers of numpy's.

    Raises `TypeError` and `ValueError`, also for a keyword that it does not have, with the nearest one.
    """
    return checked_raising(None)(function)


def checked_raising(error: type[Exception] | None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As `checked`, for a function that promises this error for every value that it cannot take."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        parameters = inspect.signature(function).parameters
        ordered = [n for n, one in parameters.items() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        forms = {name: form for name in parameters if (form := form_of(owner, name)) is not None}
        # of a class, `SuggestsKeywords` names the unknown keyword: it knows the parents' keywords, too
        closed = function.__name__ != "__init__" and not any(one.kind is one.VAR_KEYWORD for one in parameters.values())

        def plain(name: str, value: object) -> object:
            try:
                return forms[name].check(name, value) if name in forms else value
            except (TypeError, ValueError) as wrong:
                raise wrong if error is None else error(str(wrong)) from None

        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> R:
            if len(args) > len(ordered):
                given = ", ".join(f"{name}=…" for name in [*parameters][: len(args)])
                raise TypeError(f"{owner}() takes keywords only: write {owner}({given})")
            for name in keywords if closed else ():
                if name not in parameters:
                    raise TypeError(unknown_keyword(owner, name, sorted(parameters)))
            in_order = [plain(name, value) for name, value in zip(ordered, args, strict=False)]
            return function(*in_order, **{name: plain(name, value) for name, value in keywords.items()})  # type: ignore[arg-type]  # the same arguments, plain

        return call

    return decorate


def check_fields(self: object) -> None:
    """Checks the fields of a dataclass against the table, and makes them plain."""
    owner = next(cls for cls in type(self).__mro__ if cls.__module__.startswith("umbel."))  # a subclass may mean others
    for one in fields(owner):
        value, form = getattr(self, one.name), form_of(owner.__name__, one.name)
        if form is not None and value is not one.default:
            object.__setattr__(self, one.name, form.check(one.name, value))
