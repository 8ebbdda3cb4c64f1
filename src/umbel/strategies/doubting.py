"""FedAvg that does not believe everything that clients report: the losses and metrics of strategies that expect liars."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.dialogue import Metrics
from umbel.remarks import Remark, remark
from umbel.strategies.averages import median_metrics
from umbel.strategies.fedavg import FedAvg

__all__ = ["Doubting"]


class Doubting(FedAvg):
    """Losses and metrics are no averages: it is the median of what clients report, each client once.

    Nothing is believed that too few have sent (`senders_needed`). Where it is known how many may lie, f of them, at least
    3f + 1 clients evaluate if so many are there, and 2f + 1 have to answer.
    """

    @property
    def _liars(self) -> int | None:
        """How many clients may lie, as the owner has said; None where nothing was said."""
        said = [getattr(self, name, 0) for name in ("num_malicious_clients", "num_left_out")]
        return max(said) or None

    def num_evaluation_clients(self, num_available_clients: int) -> tuple[int, int]:
        size, needed = super().num_evaluation_clients(num_available_clients)
        f = self._liars or 0
        least = 2 * f + 1  # that have to answer; f more where they are there, because a liar need not
        return max(size, least, min(least + f, num_available_clients)), max(needed, least)

    def _together(self, numbers: Sequence[tuple[int, Metrics]]) -> dict[str, object]:
        liars = self._liars
        if liars is not None and len(numbers) < 2 * liars + 1:
            needed = 2 * liars + 1
            text = f"{len(numbers)} clients answered, of whom {liars} may lie: to believe a number, {needed} are needed"
            remark(Remark(("too few to believe",), f"{text}. There is neither a loss nor a metric", text))
        return median_metrics([values for _, values in numbers], liars)
