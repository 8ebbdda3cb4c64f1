"""The robust rules of the literature, each a plan and a reduction. See `rule.py` for what these are.

None of them looks at the number of examples that a client claims, unless it says so: who lies in the update may lie in the
number. Ties go to the lower task. The inner products come from one pass over the updates, so a plan costs K² numbers.
"""

from __future__ import annotations

import numpy as np

from umbel.aggregators.coordinatewise import mean_around_median
from umbel.aggregators.coordinatewise import median as median_of_rows
from umbel.aggregators.coordinatewise import trimmed_mean as trimmed_mean_of_rows
from umbel.aggregators.rule import Cohort, Plan, Rule
from umbel.params import NDArray

__all__ = [
    "bucketed",
    "bulyan",
    "centered_clipping",
    "fltrust",
    "geometric_median",
    "krum",
    "krum_order",
    "median",
    "nearest_neighbours",
    "trimmed_mean",
]


def median() -> Rule:
    """The coordinatewise median (Yin et al. 2018, Algorithm 1, I)."""
    return Rule("the median", 1, "an update", reduce=median_of_rows)


def trimmed_mean(fraction: float) -> Rule:
    """The coordinatewise mean without the int(fraction·K) smallest and largest values (Yin et al. 2018, Algorithm 1, II).

    `fraction` is at least 0 and below 0.5, so that 2·int(fraction·K) < K for every K. The product is one of floats, as in
    flwr: 0.29 of 100 is 28.
    """
    if not 0 <= fraction < 0.5:
        raise ValueError(f"{fraction} is not a part to cut off on each side: it must be at least 0 and below 0.5")
    return Rule(
        f"the trimmed mean of {fraction}",
        1,
        "an update",
        reduce=lambda rows: trimmed_mean_of_rows(rows, int(fraction * len(rows))),
    )


def krum(f: int, keep: int | None = 1) -> Rule:
    """The update nearest to its K − f − 2 nearest others, or the mean of the `keep` best of them (Multi-Krum).

    s(i) = Σ ‖xᵢ − xⱼ‖² over the K − f − 2 updates j nearest to i; the lowest scores win (Blanchard et al. 2017, "Machine
    Learning with Adversaries", section 4; Multi-Krum: section 5.3). Needs K ≥ 2f + 3. `keep=None` keeps K − f. A single
    winner's update is the result, to the last bit.
    """
    _not_negative("f", f)
    if keep is not None and keep < 1:
        raise ValueError(f"keep={keep}; Krum keeps one update at least")

    def plan(cohort: Cohort) -> NDArray:
        kept = cohort.count - f if keep is None else min(keep, cohort.count)
        best = krum_order(cohort.distances, f)[:kept]
        return np.asarray(_selection(best, len(cohort.gram)).mean(axis=0, keepdims=True))

    name = f"Krum with f={f}" if keep == 1 else f"Multi-Krum with f={f}"
    return Rule(name, 2 * f + 3, "2·f + 3", plan=plan)


def krum_order(squares: NDArray, f: int) -> NDArray:
    """The updates by ascending Krum score, from their squared distances; where scores are equal the lower task is first."""
    count = len(squares)
    nearest = np.sort(squares + np.diag(np.full(count, np.inf)), axis=1)[:, : max(count - f - 2, 1)]
    return np.argsort(nearest.sum(axis=1) if count > 1 else np.zeros(1), kind="stable")


def bulyan(f: int) -> Rule:
    """Krum K − 2f times, without the winners so far; then, of these, the mean of the K − 4f values nearest to the median.

    El Mhamdi et al. 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium", section 4. Needs K ≥ 4f + 3.
    """
    _not_negative("f", f)

    def plan(cohort: Cohort) -> NDArray:
        squares, left, chosen = cohort.distances, np.arange(cohort.count), []
        for _ in range(cohort.count - 2 * f):
            winner = krum_order(squares[np.ix_(left, left)], f)[0]
            chosen.append(left[winner])
            left = np.delete(left, winner)
        return _selection(np.sort(chosen), len(cohort.gram))

    return Rule(
        f"Bulyan with f={f}",
        4 * f + 3,
        "4·f + 3",
        plan=plan,
        reduce=lambda rows: mean_around_median(rows, len(rows) - 2 * f),
    )


def geometric_median(iterations: int = 8, smoothing: float = 1e-6, *, by_examples: bool = False) -> Rule:
    """The point with the least sum of distances to all updates, by the smoothed Weiszfeld algorithm (RFA).

    z ← Σ βᵢxᵢ / Σ βᵢ with βᵢ = αᵢ / max(ν, ‖z − xᵢ‖), `iterations` times (Pillutla et al. 2022, "Robust Aggregation for
    Federated Learning", Algorithm 2). α is 1/K for every client, as in the Byzantine literature; `by_examples=True` has
    the paper's αᵢ ∝ number of examples. It starts where βᵢ = αᵢ / max(ν, medianⱼ ‖xᵢ − xⱼ‖), where whoever is far from
    most counts little; not from their mean, which one update of 10³⁰ would take further than a few iterations come back,
    and not from the model, which a client that changed nothing would hold fast.
    """
    if iterations < 1 or not smoothing > 0:
        raise ValueError(f"iterations={iterations} and smoothing={smoothing} must be above 0")

    def plan(cohort: Cohort) -> NDArray:
        alpha = cohort.weights / cohort.weights.sum() if by_examples else np.full(cohort.count, 1 / cohort.count)
        point, far = np.zeros(len(cohort.gram)), cohort.far[: cohort.count]
        middle = (cohort.count - int(far.sum())) // 2  # of the distances to those that are not far, its own among them
        lengths = np.where(far, np.inf, np.sqrt(np.sort(cohort.distances, axis=1)[:, middle]))
        for _ in range(iterations + 1):  # the first makes the point to start from
            beta = alpha / np.maximum(lengths, smoothing)
            if not beta.sum() > 0:  # all of them are far: the model stays
                return np.zeros_like(point)[None, :]
            point[: cohort.count] = beta / beta.sum()
            lengths = cohort.lengths_from(point)
        return point[None, :]

    return Rule(f"the geometric median in {iterations} iterations", 1, "an update", plan=plan)


def centered_clipping(radius: float, iterations: int = 1) -> Rule:
    """v ← v + (1/K) Σ (xᵢ − v) · min(1, τ / ‖xᵢ − v‖), from the last round's v (Karimireddy, He, Jaggi 2021, "Learning from
    History for Byzantine Robust Optimization", equation 7 and Algorithm 2).

    x and v are differences to the version that the clients started from; the first v is 0, so that the first step is at
    most τ per iteration. v is kept from round to round with the model.
    """
    if iterations < 1 or not radius > 0:
        raise ValueError(f"radius={radius} and iterations={iterations} must be above 0")

    def plan(cohort: Cohort) -> NDArray:
        point = np.zeros(len(cohort.gram))
        point[-1] = 1.0
        for _ in range(iterations):
            clip = radius / np.maximum(cohort.lengths_from(point), radius)
            point *= 1 - clip.sum() / cohort.count
            point[: cohort.count] += clip / cohort.count
        return point[None, :]

    return Rule(f"centered clipping at {radius}", 1, "an update", plan=plan, keeps=True)


def fltrust() -> Rule:
    """Σ TSᵢ·(‖g₀‖/‖gᵢ‖)·gᵢ / Σ TSᵢ with the trust scores TSᵢ = max(0, cos(gᵢ, g₀)), where g₀ is the server's own update.

    Cao et al. 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", equations 2 to 4. The guide is
    g₀. Where no client is trusted, the model stays: the result is the version that the clients started from.
    """

    def plan(cohort: Cohort) -> NDArray:
        lengths = np.sqrt(np.diagonal(cohort.gram))
        own, others = lengths[-1], lengths[: cohort.count]
        usable = (others > 0) & (own > 0)  # far updates have length 0 here
        safe = np.where(usable, others, 1.0)
        trust = np.where(usable, np.maximum(cohort.gram[: cohort.count, -1] / safe / (own or 1.0), 0.0), 0.0)
        row = np.zeros((1, len(cohort.gram)))
        if trust.sum() > 0:
            row[0, : cohort.count] = trust / trust.sum() * own / safe
        return row

    return Rule("FLTrust", 1, "an update", plan=plan)


def bucketed(rule: Rule, size: int) -> Rule:
    """`rule` over the means of buckets of `size` updates, drawn at random; the last may be smaller (Karimireddy, He, Jaggi
    2022, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", Algorithm 1).

    The rule's numbers are about buckets: f attackers can be in f buckets.
    """
    if size < 1:
        raise ValueError(f"a bucket of {size} updates; it holds one at least")

    def mix(cohort: Cohort) -> NDArray:
        shuffled = cohort.rng().permutation(cohort.count)
        buckets = [np.sort(shuffled[start : start + size]) for start in range(0, cohort.count, size)]
        return np.vstack([_selection(bucket, len(cohort.gram)).mean(axis=0) for bucket in buckets])

    # The fewest updates that make `least` buckets.
    return _mix_before(rule, mix, f"buckets of {size}", size * (rule.least - 1) + 1)


def nearest_neighbours(rule: Rule, f: int) -> Rule:
    """`rule` over the updates, each replaced by the mean of its K − f nearest, itself included (Allouah et al. 2023, "Fixing
    by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity", Algorithm 2).
    """
    _not_negative("f", f)

    def mix(cohort: Cohort) -> NDArray:
        nearest = np.argsort(cohort.distances, axis=1, kind="stable")[:, : cohort.count - f]
        return np.vstack([_selection(row, len(cohort.gram)).mean(axis=0) for row in nearest])

    return _mix_before(rule, mix, f"nearest-neighbour mixing with f={f}", max(rule.least, 2 * f + 1))


def _mix_before(rule: Rule, mix: Plan, name: str, least: int) -> Rule:
    inner = rule.plan

    def plan(cohort: Cohort) -> NDArray:
        matrix = mix(cohort)
        if inner is None:
            return matrix
        matrix = np.vstack([matrix, np.eye(len(cohort.gram))[cohort.count :]])
        return inner(cohort.mixed(matrix)) @ matrix

    return rule._replace(name=f"{rule.name} over {name}", least=least, why=f"{rule.why} after mixing", plan=plan)


def _selection(rows: NDArray, count: int) -> NDArray:
    """A matrix whose rows pick these updates of `count`."""
    matrix = np.zeros((len(rows), count))
    matrix[np.arange(len(rows)), rows] = 1.0
    return matrix


def _not_negative(name: str, value: int) -> None:
    if value < 0:
        raise ValueError(f"{name}={value}; it is a number of clients, 0 or more")
