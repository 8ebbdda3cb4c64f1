"""Who is chosen, when a round closes, how a run ends, and strategies that people write themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from case import NETWORK, PROCESSES, Case, begun_on, seconds, tensor_text
from every_strategy import STRATEGIES
from exact_members import Member
from troubles import raises, refused, spoilt, without_metrics

from umbel.common import ndarrays_to_parameters, parameters_to_ndarrays
from umbel.selectors import weighted
from umbel.server import Pace, Until
from umbel.server.strategy import (
    Bucketing,
    CenteredClipping,
    FedAvg,
    FedAvgM,
    FedBuff,
    FedMedian,
    FedTrimmedAvg,
    GeometricMedian,
    PowerOfChoice,
    QFedAvg,
    Strategy,
)

__all__ = ["courses"]


class SavesEachRound(FedAvg):
    """Reads the arrays that it makes, as people do who save them."""

    def aggregate_fit(self, server_round, results, failures):
        made, metrics = super().aggregate_fit(server_round, results, failures)
        if made is not None:
            metrics = {**metrics, "saved": tensor_text(parameters_to_ndarrays(made)[0])}
        return made, metrics


class OwnMean(FedAvg):
    """Combines by itself: the mean of the first array; the others as the last client sent them."""

    def aggregate_fit(self, server_round, results, failures):
        replies = [parameters_to_ndarrays(result.parameters) for _, result in results]
        total = np.zeros(replies[0][0].shape)
        for reply in replies:
            total = total + reply[0]
        return ndarrays_to_parameters([(total / 8).astype(np.float32), *replies[-1][1:]]), {"replies": len(replies)}


class OwnParameters(FedAvg):
    """Sends every other client half of the model, and each a config of its own."""

    def configure_fit(self, server_round, parameters, client_manager):
        halves = ndarrays_to_parameters([array * np.float32(0.5) for array in parameters_to_ndarrays(parameters)])
        chosen = super().configure_fit(server_round, parameters, client_manager)
        for place, (_, ins) in enumerate(chosen):
            ins.config["proximal_mu"] = place / 8
            ins.parameters = halves if place % 2 else ins.parameters
        return chosen


class Holds(Strategy):
    """Leaves everything to a strategy that it holds, and adds to its answers."""

    def __init__(self, held):
        self.held = held

    def initialize_parameters(self, client_manager):
        return self.held.initialize_parameters(client_manager)

    def configure_fit(self, server_round, parameters, client_manager):
        return self.held.configure_fit(server_round, parameters, client_manager)[: 6 - server_round]

    def aggregate_fit(self, server_round, results, failures):
        made, metrics = self.held.aggregate_fit(server_round, results, failures)
        return made, {**metrics, "clients": " ".join(proxy.cid for proxy, _ in results)}

    def configure_evaluate(self, server_round, parameters, client_manager):
        return self.held.configure_evaluate(server_round, parameters, client_manager)

    def aggregate_evaluate(self, server_round, results, failures):
        loss, metrics = self.held.aggregate_evaluate(server_round, results, failures)
        return loss, {**metrics, "asked": len(results)}

    def evaluate(self, server_round, parameters):
        return self.held.evaluate(server_round, parameters)


def _counted(pairs):
    return {"sum": sum(examples for examples, _ in pairs), "sites": " ".join(str(each.get("site")) for _, each in pairs)}


def courses() -> list[Case]:
    """Of the run: who is chosen, when a round closes, how the run ends, and what people write themselves."""
    cases = []

    def case(name: str, strategy: Callable[..., Strategy], kind: str = "f32", **more: object) -> None:
        settings = {"client_fn": Member, **more}
        cases.append(Case(name=name, strategy=begun_on(kind, strategy), **settings))  # type: ignore[arg-type]

    timed = {"simulated": {"durations": seconds}}
    case("a deadline", FedAvg, timeout=5.0, ways=(PROCESSES,), **timed)
    case("a deadline, FedAdam", STRATEGIES["FedAdam"], "mixed", timeout=4.0, dies=2, **timed)
    case("a deadline, and Krum has too few", STRATEGIES["Krum"], timeout=3.0, rough=True, **timed)
    case("a deadline is missed by all", FedAvg, timeout=0.5, rounds=2, **timed)
    case("over-selection", lambda **k: FedAvg(pace=Pace(goal=3, quorum=2), **k), dies=2, ways=(PROCESSES,), **timed)
    case("over-selection, FedMedian", lambda **k: FedMedian(pace=Pace(goal=5), **k), "bf16", **timed)
    case(
        "FedBuff gives up what is old",
        lambda **k: FedBuff(buffer_size=2, concurrency=8, max_staleness=1, **k),
        rounds=12,
        dies=5,
        ways=(PROCESSES,),
        **timed,
    )
    case(
        "FedBuff with clients that raise",
        lambda **k: FedBuff(buffer_size=2, concurrency=6, server_learning_rate=0.5, **k),
        client_fn=spoilt(raises, 1, 2),
        rounds=8,
        dies=4,
        ways=(PROCESSES,),
        **timed,
    )
    case(
        "FedAsync with clients that are refused",
        STRATEGIES["FedAsync"],
        client_fn=spoilt(refused, 1, 2),
        rounds=10,
        dies=6,
        **timed,
    )
    case(
        "FedBuff over the network",
        lambda **k: FedBuff(buffer_size=3, concurrency=3, **k),
        clients=3,
        dies=2,
        ways=(NETWORK,),
    )
    case(
        "FedAdam carries over", lambda **k: STRATEGIES["FedAdam"](pace=Pace(goal=3, carry_over=True), **k), rounds=6, **timed
    )
    case("FedAdam over the network", STRATEGIES["FedAdam"], "mixed", clients=3, dies=2, ways=(NETWORK,))
    case(
        "PowerOfChoice over the network",
        lambda **k: PowerOfChoice(FedAvg(fraction_fit=0.4, **k), candidates=3),
        clients=3,
        ways=(NETWORK,),
    )
    few = {"fraction_fit": 0.25, "fraction_evaluate": 0.3}
    case("a part is sampled", lambda **k: FedAvg(**few, **k), clients=20, dies=2, ways=(PROCESSES,))
    case("a part is sampled, FedAdagrad", lambda **k: STRATEGIES["FedAdagrad"](**few, **k), "mixed", clients=20)
    case("a part is sampled of names", lambda **k: FedAvg(**few, **k), names=[str(n * 7 % 100) for n in range(1, 30)])
    case(
        "a part is sampled by weights",
        lambda **k: FedAvg(select=weighted(float, fraction=0.3, min_clients=2, min_available=2), **k),
        clients=12,
    )
    case("another seed", lambda **k: FedAvg(**few, **k), clients=20, simulated={"seed": 12345})
    case("evaluation every second round", lambda **k: FedAvg(evaluate_every=2, **k), rounds=5, dies=4)
    case("no evaluation by clients", lambda **k: FedAvg(fraction_evaluate=0.0, **k))
    case("a target ends the run", lambda **k: FedAvg(until=Until(at_most=1.0), **k), rounds=8)
    case("patience ends the run", lambda **k: FedAvg(until=Until(patience=2), **k), rounds=9, dies=2)
    case("the best is kept", lambda **k: FedAvg(keep_best="loss", **k), rounds=6, dies=3)
    case(
        "the best is kept by a metric, FedAvgM",
        lambda **k: STRATEGIES["FedAvgM"](keep_best="largest", until=Until(metric="largest", at_least=99.0), **k),
        rounds=6,
        dies=3,
    )
    case(
        "the server's rate changes",
        lambda **k: FedAvgM(server_learning_rate=lambda n: 2.0**-n, server_momentum=0.5, **k),
        dies=2,
    )
    case(
        "the server's rate changes, FedBuff",
        lambda **k: FedBuff(buffer_size=2, concurrency=4, server_learning_rate=lambda n: 1 / n, **k),
        rounds=6,
        **timed,
    )
    case(
        "metrics by a function of one's own",
        lambda **k: FedAvg(fit_metrics_aggregation_fn=_counted, evaluate_metrics_aggregation_fn=_counted, **k),
    )
    case("a strategy that saves each round", SavesEachRound, dies=2, ways=(PROCESSES,))
    case("a strategy that combines by itself", OwnMean, dies=2, ways=(PROCESSES,))
    case("a strategy that sends parameters of its own", OwnParameters, dies=2, ways=(PROCESSES,))
    case("a strategy that holds another", lambda **k: Holds(STRATEGIES["FedAvgM"](**k)), dies=2, ways=(PROCESSES,))
    case("a strategy that holds a robust one", lambda **k: Holds(FedTrimmedAvg(**k)), "mixed")
    case("the geometric median counts examples", lambda **k: GeometricMedian(by_examples=True, **k), rough=True)
    case(
        "QFedAvg with a loss of the server's",
        lambda **k: QFedAvg(q_param=2.0, **k),
        client_fn=spoilt(without_metrics, *range(8)),
        rough=True,
    )
    case(
        "buckets of CenteredClipping",
        lambda **k: Bucketing(CenteredClipping(clipping_radius=1.0, **k)),
        "mixed",
        dies=2,
        rough=True,
    )
    case("momentum and statistics", lambda **k: FedAvgM(server_momentum=0.9, **k), rounds=6)
    return cases
