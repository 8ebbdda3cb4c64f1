"""Every strategy, with settings that have much to say, on every kind of model."""

from __future__ import annotations

from collections.abc import Callable

from case import NETWORK, PROCESSES, Case, begun_on, seconds
from exact_members import MODELS, Booster, Member, NetworkAndBooster, trained

from umbel.common import NDArrays, Parameters, ndarrays_to_parameters
from umbel.server.strategy import (
    Bucketing,
    Bulyan,
    CenteredClipping,
    FaultTolerantFedAvg,
    FedAdagrad,
    FedAdam,
    FedAsync,
    FedAvg,
    FedAvgM,
    FedBuff,
    FedMedian,
    FedOpt,
    FedProx,
    FedTrimmedAvg,
    FedXgbBagging,
    FedXgbCyclic,
    FedXgbNnAvg,
    FedYogi,
    FLTrust,
    GeometricMedian,
    Krum,
    MultiKrum,
    NearestNeighbourMixing,
    PowerOfChoice,
    QFedAvg,
    Strategy,
)
from umbel.training import ClientFn

__all__ = ["STRATEGIES", "every_strategy"]

KINDS = ("f32", "integers", "bf16", "mixed")


def _root(number: int, arrays: NDArrays) -> NDArrays:
    return [trained(array, 3, number) for array in arrays]


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "FedAvg": FedAvg,
    "FedAvgM": lambda **k: FedAvgM(server_learning_rate=0.5, server_momentum=0.75, **k),
    "FedOpt": FedOpt,
    "FedAdagrad": lambda **k: FedAdagrad(eta=0.25, tau=2**-6, **k),
    "FedAdam": lambda **k: FedAdam(eta=0.25, tau=2**-6, **k),
    "FedYogi": lambda **k: FedYogi(eta=0.25, tau=2**-6, **k),
    "FedProx": lambda **k: FedProx(proximal_mu=0.25, **k),
    "FaultTolerantFedAvg": FaultTolerantFedAvg,
    "QFedAvg": lambda **k: QFedAvg(q_param=1.0, **k),
    "FedMedian": FedMedian,
    "FedTrimmedAvg": lambda **k: FedTrimmedAvg(beta=0.25, **k),
    "Krum": lambda **k: Krum(num_malicious_clients=1, **k),
    "MultiKrum": lambda **k: MultiKrum(num_malicious_clients=1, num_clients_to_keep=4, **k),
    "Bulyan": lambda **k: Bulyan(num_malicious_clients=1, **k),
    "GeometricMedian": lambda **k: GeometricMedian(iterations=3, **k),
    "CenteredClipping": lambda **k: CenteredClipping(clipping_radius=2.0, iterations=2, **k),
    "FLTrust": lambda **k: FLTrust(root_fit=_root, **k),
    "Bucketing": lambda **k: Bucketing(FedMedian(**k), bucket_size=2),
    "NearestNeighbourMixing": lambda **k: NearestNeighbourMixing(FedTrimmedAvg(beta=0.25, **k), num_malicious_clients=1),
    "PowerOfChoice": lambda **k: PowerOfChoice(FedAvg(fraction_fit=0.5, **k), candidates=6),
    "FedBuff": lambda **k: FedBuff(buffer_size=3, concurrency=6, **k),
    "FedAsync": lambda **k: FedAsync(concurrency=5, **k),
}
BOOSTING: dict[str, tuple[Callable[..., Strategy], ClientFn]] = {
    "FedXgbBagging": (FedXgbBagging, Booster),
    "FedXgbCyclic": (FedXgbCyclic, Booster),
    "FedXgbNnAvg": (FedXgbNnAvg, NetworkAndBooster),
}
ROUGH = {
    "QFedAvg",
    "Krum",
    "MultiKrum",
    "Bulyan",
    "GeometricMedian",
    "CenteredClipping",
    "FLTrust",
    "NearestNeighbourMixing",
}
ASYNCHRONOUS = {"FedBuff", "FedAsync"}


def _plain(name: str, kind: str) -> Case:
    return Case(
        name=f"{name} {kind}",
        strategy=begun_on(kind, STRATEGIES[name]),
        client_fn=Member,
        rounds=8 if name in ASYNCHRONOUS else 3,
        simulated={"durations": seconds} if name in ASYNCHRONOUS else {},
        dies=2 if kind == "mixed" else 0,
        ways=(PROCESSES,) if kind == "mixed" else (),
        rough=name in ROUGH,
    )


def _boosting(name: str) -> Case:
    strategy, client_fn = BOOSTING[name]
    start = [] if name != "FedXgbNnAvg" else MODELS["f32"][:1]
    given = Parameters([], tensor_type="") if not start else ndarrays_to_parameters(start)
    return Case(
        name=f"{name} bytes",
        strategy=lambda **keywords: strategy(initial_parameters=given, **keywords),
        client_fn=client_fn,
        clients=3,
        dies=2,
        ways=(PROCESSES, NETWORK) if name == "FedXgbBagging" else (PROCESSES,),
    )


def every_strategy() -> list[Case]:
    plain = [_plain(name, kind) for name in STRATEGIES for kind in KINDS]
    return [*plain, *(_boosting(name) for name in BOOSTING)]
