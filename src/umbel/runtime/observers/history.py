"""What a run leaves behind: losses and metrics by round, folded from the event stream."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from umbel.population import place_of
from umbel.rounds import events
from umbel.rounds.events import Event
from umbel.runtime.stores.codec import encode

__all__ = ["FailureNote", "History"]

Series = list[tuple[int, object]]


@dataclass(frozen=True, slots=True)
class FailureNote:
    """A task without a result: `reason` is "raised", "rejected", "late" or "left"."""

    round: int
    kind: str
    client: str
    reason: str
    text: str
    detail: str = ""


@dataclass
class History:
    """Losses are lists of (round, loss); metrics are dicts of name → [(round, value), ...]; round 0 is before the first."""

    losses_distributed: Series = field(default_factory=list)
    losses_centralized: Series = field(default_factory=list)
    metrics_distributed_fit: dict[str, Series] = field(default_factory=dict)
    metrics_distributed: dict[str, Series] = field(default_factory=dict)
    metrics_centralized: dict[str, Series] = field(default_factory=dict)
    failures: list[FailureNote] = field(default_factory=list)

    def add_loss_distributed(self, server_round: int, loss: object) -> None:
        self.losses_distributed.append((server_round, loss))

    def add_loss_centralized(self, server_round: int, loss: object) -> None:
        self.losses_centralized.append((server_round, loss))

    def add_metrics_distributed_fit(self, server_round: int, metrics: dict[str, object]) -> None:
        _extend(self.metrics_distributed_fit, server_round, metrics)

    def add_metrics_distributed(self, server_round: int, metrics: dict[str, object]) -> None:
        _extend(self.metrics_distributed, server_round, metrics)

    def add_metrics_centralized(self, server_round: int, metrics: dict[str, object]) -> None:
        _extend(self.metrics_centralized, server_round, metrics)

    def observe(self, event: Event) -> None:
        """Takes in one event; most leave no trace here."""
        match event:
            case events.ExchangeClosed():
                self._close(event)
            case events.CentrallyEvaluated(round=number, loss=loss, metrics=metrics):
                self.add_loss_centralized(number, loss)
                self.add_metrics_centralized(number, metrics)
            case events.TaskFailed():
                note = FailureNote(event.round, event.kind, event.client, event.reason, event.text, event.detail)
                self.failures.append(note)
            case _:
                pass

    def _close(self, event: events.ExchangeClosed) -> None:
        if event.kind == "fit":
            self.add_metrics_distributed_fit(event.round, event.metrics)
        else:
            if event.loss is not None:
                self.add_loss_distributed(event.round, event.loss)
            self.add_metrics_distributed(event.round, event.metrics)
        # By client, not by arrival: a History is the same on every backend.
        mine = len(self.failures)
        while mine and (self.failures[mine - 1].round, self.failures[mine - 1].kind) == (event.round, event.kind):
            mine -= 1
        self.failures[mine:] = sorted(self.failures[mine:], key=lambda note: place_of(note.client))

    def to_bytes(self) -> bytes:
        """For a snapshot."""
        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> History:
        return msgspec.msgpack.decode(data, type=cls)

    def __repr__(self) -> str:
        parts = [
            _losses("loss, distributed", self.losses_distributed),
            _losses("loss, centralized", self.losses_centralized),
            _metrics("metrics, distributed, fit", self.metrics_distributed_fit),
            _metrics("metrics, distributed, evaluate", self.metrics_distributed),
            _metrics("metrics, centralized", self.metrics_centralized),
        ]
        if self.failures:
            parts.append(f"failures: {len(self.failures)}\n")
        return "History (" + ("".join(parts).rstrip("\n") or "empty") + ")"


def _extend(series: dict[str, Series], server_round: int, metrics: dict[str, object]) -> None:
    for name, value in metrics.items():
        series.setdefault(name, []).append((server_round, value))


def _losses(title: str, series: Series) -> str:
    return "".join([f"{title}:\n", *(f"\tround {number}: {value}\n" for number, value in series)]) if series else ""


def _metrics(title: str, metrics: dict[str, Series]) -> str:
    return "".join([f"{title}:\n", *(f"\t{name}: {series}\n" for name, series in metrics.items())]) if metrics else ""
