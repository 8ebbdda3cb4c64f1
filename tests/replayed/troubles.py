"""Clients that fail, that are refused, and that answer strangely."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from case import NETWORK, PROCESSES, Case, begun_on
from every_strategy import STRATEGIES
from exact_members import Drawing, Member

from umbel.server import Pace
from umbel.server.strategy import FaultTolerantFedAvg, FedAvg, FedMedian, Strategy
from umbel.training import ClientFn

__all__ = ["raises", "refused", "spoilt", "troubles", "without_metrics"]

Answer = tuple[list[np.ndarray], int, dict[str, object]]


def spoilt(how: Callable[[Answer], Answer], *who: int, rounds: Sequence[int] = (2, 3), kind: str = "f32") -> ClientFn:
    def spoil(name: int, number: int, answer: Answer) -> Answer:
        return how(answer) if name in who and number in rounds else answer

    return lambda context: Member(context, spoil, kind)


def raises(answer: Answer) -> Answer:
    raise ValueError("no data today")


def refused(answer: Answer) -> Answer:
    answer[0][0].ravel()[-1] = math.nan
    return answer


def _shape(answer: Answer) -> Answer:
    return [answer[0][0][:-1], *answer[0][1:]], answer[1], answer[2]


def _fewer(answer: Answer) -> Answer:
    return answer[0][:1], answer[1], answer[2]


def _negative(answer: Answer) -> Answer:
    return answer[0], -1, answer[2]


def _none(answer: Answer) -> Answer:
    return answer[0], 0, answer[2]


def _as(*dtypes: str) -> Callable[[Answer], Answer]:
    def cast(answer: Answer) -> Answer:
        cast_ones = [array.astype(dtype) + 2**-12 for array, dtype in zip(answer[0], dtypes, strict=True)]
        return [np.asarray(a).astype(d) for a, d in zip(cast_ones, dtypes, strict=True)], answer[1], answer[2]

    return cast


def _idle(answer: Answer) -> Answer:
    """Has trained nothing, and answers integers with the integers that it was given."""
    return [np.asarray(array).astype(np.int64) for array in answer[0]], 0, {}


def _nan_metric(answer: Answer) -> Answer:
    return answer[0], answer[1], {**answer[2], "loss": math.nan}


def without_metrics(answer: Answer) -> Answer:
    return answer[0], answer[1], {}


def _large(answer: Answer) -> Answer:
    return [np.asarray(array * 2**20).astype(array.dtype) for array in answer[0]], answer[1], answer[2]


def _floats_from_integers(name: int, number: int, answer: Answer) -> Answer:
    arrays = [np.asarray(array + name / 8) for array in answer[0]]
    return _idle((arrays, 0, {})) if name == 1 else (arrays, answer[1], answer[2])


EVERYONE = tuple(range(8))


def troubles() -> list[Case]:
    """Of clients. What is refused and why is in the History."""
    cases = []

    def case(
        name: str, client_fn: ClientFn, strategy: Callable[..., Strategy] = FedAvg, kind: str = "f32", **more: object
    ) -> None:
        cases.append(Case(name=name, strategy=begun_on(kind, strategy), client_fn=client_fn, **more))  # type: ignore[arg-type]

    raising = spoilt(raises, 2, 5)
    three = {"clients": 3}
    case("a client raises", raising, ways=(PROCESSES,))
    case("a client raises, over the network", spoilt(raises, 2), kind="mixed", dies=2, ways=(PROCESSES, NETWORK), **three)
    case("a client raises, FedAdam", raising, STRATEGIES["FedAdam"], dies=2, ways=(PROCESSES,))
    case("a client raises, FedAvgM with integers", raising, STRATEGIES["FedAvgM"], "integers")
    case("a client raises, FedMedian", raising, FedMedian, ways=(PROCESSES,))
    case("two clients raise, and Krum has too few", spoilt(raises, 0, 1, 2, 3), STRATEGIES["Krum"], rough=True)
    case("a client raises, accept_failures=False", raising, lambda **k: FedAvg(accept_failures=False, **k))
    case("a client raises, too few for FaultTolerantFedAvg", spoilt(raises, 0, 1, 2, 4, 7, rounds=(2,)), FaultTolerantFedAvg)
    case("all clients raise in a round", spoilt(raises, *EVERYONE, rounds=(2,)), STRATEGIES["FedYogi"])
    case(
        "all clients raise, and the quorum ends the run",
        spoilt(raises, *EVERYONE, rounds=(3,)),
        lambda **k: FedAvg(pace=Pace(quorum=3, retries=1), **k),
    )
    case("an update is not finite", spoilt(refused, 1, 3), ways=(PROCESSES,))
    case(
        "an update is not finite, FedMedian over the network",
        spoilt(refused, 1, rounds=(4,)),
        FedMedian,
        ways=(NETWORK,),
        **three,
    )
    case("an update has another shape", spoilt(_shape, 1), STRATEGIES["FedAvgM"])
    case("an update has fewer arrays", spoilt(_fewer, 1), ways=(PROCESSES,))
    case("num_examples is negative", spoilt(_negative, 1))
    case("num_examples is 0", spoilt(_none, 1, 2))
    case("every num_examples is 0", spoilt(_none, *EVERYONE), STRATEGIES["FedAdam"])
    case("float32 is answered in float64", spoilt(_as("float64", "float64"), 1, 2))
    case("float32 is answered in float64 by all", spoilt(_as("float64", "float64"), *EVERYONE))
    case("bfloat16 is answered in float32", spoilt(_as("float32", "float32"), *EVERYONE, rounds=(1, 2, 3, 4)), kind="bf16")
    case(
        "integers are answered with floats", spoilt(_as("float64", "float64"), *EVERYONE), kind="integers", ways=(PROCESSES,)
    )
    case("integers are answered with floats, FedMedian", spoilt(_as("float64", "float64"), *EVERYONE), FedMedian, "integers")
    case(
        "integers are answered with floats, but for an idle client",
        lambda context: Member(context, _floats_from_integers),
        kind="integers",
        dies=2,
        ways=(PROCESSES,),
    )
    case("a metric is NaN", spoilt(_nan_metric, 1))
    case("a client leaves its metrics out", spoilt(without_metrics, 1))
    case("two updates are far away, FedAvg", spoilt(_large, 1, 2))
    case("two updates are far away, FedTrimmedAvg", spoilt(_large, 1, 2), STRATEGIES["FedTrimmedAvg"])
    case("one update is far away, Krum", spoilt(_large, 1), STRATEGIES["Krum"], rough=True)
    case("one update is far away, GeometricMedian", spoilt(_large, 1), STRATEGIES["GeometricMedian"], rough=True)
    case(
        "nobody has parameters",
        lambda context: Member(context, kind="mixed"),
        lambda **k: FedAvg(**{**k, "initial_parameters": None}),
    )
    case(
        "a client gives the parameters over the network",
        Member,
        lambda **k: FedAvg(**{**k, "initial_parameters": None}),
        dies=1,
        ways=(NETWORK,),
        **three,
    )
    case("clients draw", Drawing, dies=2, ways=(PROCESSES, NETWORK), **three)
    return cases
