"""What a run leaves behind: losses and metrics by round, folded from the coordinator's notices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from umbel.errors import StoreError
from umbel.named import NamedArrays
from umbel.population import place_of
from umbel.rounds import notices
from umbel.rounds.notices import Notice
from umbel.runtime.observers.as_json import history_fields, json_text
from umbel.runtime.saved import BestModel, MakeModel, SavedModel
from umbel.runtime.stores.codec import encode

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["FailureNote", "History"]

Series = list[tuple[int, object]]


@dataclass(frozen=True, slots=True)
class FailureNote:
    """A task without a result: `reason` is "raised", "rejected", "late", "left", "died" or "lost"."""

    round: int
    kind: str
    client: str
    reason: str
    text: str
    detail: str = ""


@dataclass
class History:
    """Losses are lists of (round, loss); metrics are dicts of name → [(round, value), ...]; round 0 is before the first.

    `failures` come round by round, those of one exchange by their clients' place in the population: not by arrival, so that
    a History is the same wherever the clients run.

    After a run it has the model: `parameters`, `model` and `best`; `interrupted` says that Ctrl-C has ended it. Two
    Histories with the same numbers are equal.
    """

    losses_distributed: Series = field(default_factory=list)
    losses_centralized: Series = field(default_factory=list)
    metrics_distributed_fit: dict[str, Series] = field(default_factory=dict)
    metrics_distributed: dict[str, Series] = field(default_factory=dict)
    metrics_centralized: dict[str, Series] = field(default_factory=dict)
    failures: list[FailureNote] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._last: SavedModel | None = None  # no field: a journal and JSON have the numbers alone
        self._best: BestModel | None = None
        self.interrupted = False  # Ctrl-C has ended the run

    @property
    def parameters(self) -> NamedArrays:
        """The model's last version: a list of arrays that knows their names; `dict(history.parameters)` is by name.

        Read from the run's file when it is asked for; without a store it has been in memory since the run ended. Its
        `.metadata` has run, round, strategy and loss. Raises `StoreError` where there is no model.
        """
        return self._saved().parameters

    @property
    def model(self) -> object:
        """The last version as a model of its framework: of `fl.federate`, of a simulation whose `client_fn` is a client of
        `umbel.frameworks`, or made as `keep(make_model=…)` has said.

        Raises `StoreError` where how it is made is not known.
        """
        return self._saved().model

    @property
    def best(self) -> BestModel | None:
        """The best version by the metric that the strategy's `keep_best` names, with its `parameters`, `round`, `metric`
        and `value`; None where none was kept.
        """
        return self._best

    def keep(
        self, last: SavedModel | None = None, best: BestModel | None = None, make_model: MakeModel | None = None
    ) -> None:
        """Takes over the models that the run leaves, and what makes a framework's model of their parameters."""
        self._last, self._best = last or self._last, best or self._best
        for saved in (self._last, self._best):
            if saved is not None and make_model is not None:
                saved.make_model = make_model

    def loss_of(self, number: int) -> object:
        """The loss after a round: the owner's own where there is one, else the clients'; None where there is none."""
        return {**dict(self.losses_distributed), **dict(self.losses_centralized)}.get(number)

    def _saved(self) -> SavedModel:
        if self._last is None:
            raise StoreError(
                "this History has no model: its run has not ended, it ended before there was one, or it was read from JSON. "
                "fl.load(path) reads a model's file, and `umbel model export` writes one of a run that was kept"
            )
        return self._last

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

    def observe(self, notice: Notice) -> bool:
        """Takes in one notice; False for one that leaves no trace here, as most do."""
        match notice:
            case notices.ExchangeClosed():
                self._close(notice)
            case notices.CentrallyEvaluated(round=number, loss=loss, metrics=metrics):
                self.add_loss_centralized(number, loss)
                self.add_metrics_centralized(number, metrics)
            case notices.TaskFailed(kind="parameters", reason="empty"):
                return False  # no failure: another client is asked, or the model is empty
            case notices.TaskFailed():
                said = notice.reason, notice.text, notice.detail
                note = FailureNote(notice.round, notice.kind, notice.client, *said)
                self.failures.append(note)
            case notices.RunRewound(round=number):
                self.forget(number)
            case _:
                return False
        return True

    def _close(self, notice: notices.ExchangeClosed) -> None:
        if notice.kind == "fit":
            self.add_metrics_distributed_fit(notice.round, notice.metrics)
        elif notice.kind == "evaluate":
            if notice.loss is not None:
                self.add_loss_distributed(notice.round, notice.loss)
            self.add_metrics_distributed(notice.round, notice.metrics)
        # By client, not by arrival: a History is the same on every backend.
        mine = len(self.failures)
        while mine and (self.failures[mine - 1].round, self.failures[mine - 1].kind) == (notice.round, notice.kind):
            mine -= 1
        self.failures[mine:] = sorted(self.failures[mine:], key=lambda note: place_of(note.client))

    def forget(self, first: int) -> None:
        """Forgets everything from this round on: it is done again."""
        self.losses_distributed = _until(self.losses_distributed, first)
        self.losses_centralized = _until(self.losses_centralized, first)
        for metrics in (self.metrics_distributed_fit, self.metrics_distributed, self.metrics_centralized):
            left = {name: _until(series, first) for name, series in metrics.items()}
            metrics.clear()
            metrics.update({name: series for name, series in left.items() if series})
        self.failures = [note for note in self.failures if note.round < first]

    def columns(self) -> dict[str, dict[int, object]]:
        """Every series by the name that it has in the table which a run prints: name → round → value.

        "loss" and "accuracy" are the clients', "central loss" and "central accuracy" those of `evaluate_fn`, "fit accuracy"
        what clients said about their training. A metric whose name is taken, such as one called "loss", has " (metric)"
        after its name.

        >>> History(losses_distributed=[(1, 0.5)], metrics_centralized={"accuracy": [(0, 0.1), (1, 0.8)]}).columns()
        {'loss': {1: 0.5}, 'central accuracy': {0: 0.1, 1: 0.8}}
        """
        return {title: dict(series) for title, series in self.named_series()}

    def named_series(self) -> list[tuple[str, Series]]:
        """Every series with the name that `columns` gives it."""
        found = [("loss", self.losses_distributed), ("central loss", self.losses_centralized)]
        named = {title: series for title, series in found if series}
        for prefix, metrics in (
            ("fit ", self.metrics_distributed_fit),
            ("", self.metrics_distributed),
            ("central ", self.metrics_centralized),
        ):
            for name, series in metrics.items():
                title = prefix + name
                while title in named:
                    title += " (metric)"
                named[title] = series
        return [*named.items()]

    def to_pandas(self) -> DataFrame:
        """A DataFrame with a row per round and the columns of `columns()`; NaN where a round has no value.

        `history.to_pandas()["central accuracy"]` is one of them; `pandas.DataFrame(history.failures)` is the table of
        failures. Raises ImportError with the remedy where pandas is missing.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas, which is not installed. Run: pip install 'umbel[plot]'") from error
        columns = self.columns()
        rounds = sorted({number for values in columns.values() for number in values})
        frame = {name: pandas.Series(values, dtype=None if values else object) for name, values in columns.items()}
        return pandas.DataFrame(frame, index=pandas.Index(rounds, dtype="int64", name="round"))

    def plot(self, *names: str, axes: Axes | None = None, label: str = "") -> Figure:
        """Draws losses and metrics over the rounds, a panel for each name, and returns the figure.

        `names`, such as "accuracy" or "loss", choose the panels; all that are numbers where none is given. A panel has a
        line for what clients measured, one for what `evaluate_fn` measured and one for what clients said about their
        training. With `axes` one panel is drawn there, so that several runs can be compared; `label` names this run.

        `history.plot().savefig("history.png")` needs no screen. Raises ValueError for a name that is not there or whose
        values are no numbers, and ImportError with the remedy where matplotlib is missing.
        """
        from umbel.runtime.observers.plot import draw

        return draw(self, names, axes, label)

    def to_json(self) -> str:
        """The History as JSON text, which `from_json` reads back exactly.

        A number that JSON does not have is {"$float": "nan"}, "inf" or "-inf"; bytes are {"$bytes": base64}. Strategies may
        leave other things than scalars here: tuples become lists, numpy's numbers and arrays become numbers and lists, and
        what has no such form its repr, as in a run's journal.
        """
        return json_text(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> History:
        """The History that `to_json` wrote. Raises ValueError for anything else."""
        try:
            fields = history_fields(text)
            if not isinstance(fields, dict) or "losses_distributed" not in fields:
                raise ValueError("it has no losses_distributed")
            return msgspec.convert(fields, cls)
        except (ValueError, RecursionError) as error:  # msgspec's and json's are among them
            raise ValueError(f"this is not a History as to_json() writes it: {error}") from None

    def to_bytes(self) -> bytes:
        """The same bytes for the same History."""
        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> History:
        """A History as snapshots of older Umbels have it. Raises `StoreError` for bytes that are none."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise StoreError(f"a snapshot's History cannot be read: {error}") from None

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


def _until(series: Series, first: int) -> Series:
    return [(number, value) for number, value in series if number < first]


def _extend(series: dict[str, Series], server_round: int, metrics: dict[str, object]) -> None:
    for name, value in metrics.items():
        series.setdefault(name, []).append((server_round, value))


def _losses(title: str, series: Series) -> str:
    return "".join([f"{title}:\n", *(f"\tround {number}: {value}\n" for number, value in series)]) if series else ""


def _metrics(title: str, metrics: dict[str, Series]) -> str:
    return "".join([f"{title}:\n", *(f"\t{name}: {series}\n" for name, series in metrics.items())]) if metrics else ""
