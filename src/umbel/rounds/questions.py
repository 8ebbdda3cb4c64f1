"""What the owner's code answers, and what follows from it."""

from __future__ import annotations

from msgspec import UNSET

from umbel.rounds import events
from umbel.rounds.closing import progress
from umbel.rounds.ending import finish
from umbel.rounds.messages import (
    Chosen,
    Command,
    Evaluate,
    Evaluated,
    Initialize,
    Initialized,
    Kind,
    Publish,
    Started,
    Stepped,
    Summarized,
)
from umbel.rounds.opening import begin_round, open_exchange, wait
from umbel.rounds.seeding import ask_next
from umbel.rounds.state import Phase, Run
from umbel.rounds.stopping import find_watched, keep_best, name_unseen, reached

__all__ = ["chosen", "evaluate", "evaluated", "initialized", "start", "stepped", "summarized"]

NORMS = 1000  # of accepted updates, the newest, whose median is the measure for those to come
MAX_VOID = 3  # rounds in a row whose step was given up, before the run ends


def start(run: Run, _: Started, at: float) -> list[Command]:
    run.state.phase = Phase.INIT
    return [Publish(events.RunStarted(at, run.state.num_rounds)), Initialize()]


def initialized(run: Run, event: Initialized, at: float) -> list[Command]:
    s = run.state
    if event.given:
        s.version = 0
        return [Publish(events.ModelInitialized(at, None)), *_ask_evaluate(run)]
    s.phase, s.kind, s.needed = Phase.SEEDING, Kind.PARAMETERS, run.rules.min_available
    return ask_next(run, at)


def chosen(run: Run, event: Chosen, at: float) -> list[Command]:
    s = run.state
    goes_on = s.kind is Kind.FIT and bool(s.carried or s.ahead)
    if event.needs and not goes_on:
        s.needed = max(event.needs, len(s.pool) + 1)
        return wait(run, at)
    if not event.members and not goes_on:  # the strategy skips this exchange
        return _ask_evaluate(run) if s.kind is Kind.FIT else _end_round(run, at)
    s.phase = Phase.FIT if s.kind is Kind.FIT else Phase.EVALUATE
    return [*open_exchange(run, s.kind, event.members, at), *progress(run, at)]


def stepped(run: Run, event: Stepped, at: float) -> list[Command]:
    s = run.state
    if event.version != s.version:
        s.before = s.here
    s.version = event.version
    if s.kind is Kind.PARAMETERS:
        source = s.tasks[0].client if s.tasks else ""
        return [Publish(events.ModelInitialized(at, source)), *_ask_evaluate(run)]
    s.void_rounds = s.void_rounds + 1 if event.void else 0
    if run.rules.pace.max_update_norm == "auto" and not event.void:
        norms = [reply.norm for _, reply in s.answered if reply.norm is not UNSET and reply.norm > 0]
        s.norms = [*s.norms, *norms][-NORMS:]
    note = "\n".join(text for text in (event.void, event.note) if text)
    closed = _publish_closed(run, at, None, event.metrics, note)
    if s.void_rounds < MAX_VOID:
        return [closed, *_ask_evaluate(run)]
    why = f"{MAX_VOID} rounds in a row were void, round {s.round} the last of them: {event.void}"
    return [closed, *finish(run, at, why, error="NotFinite")]


def _ask_evaluate(run: Run) -> list[Command]:
    s = run.state
    s.phase, s.wake_at = Phase.TESTING, None
    s.forget_exchange()
    return [evaluate(run)]


def evaluate(run: Run) -> Evaluate:
    """The question how good the newest version is by the owner's own data."""
    assert run.state.version is not None
    return Evaluate(run.state.round, run.state.version)


def evaluated(run: Run, event: Evaluated, at: float) -> list[Command]:
    s = run.state
    commands: list[Command] = []
    if event.loss is not None:
        commands.append(Publish(events.CentrallyEvaluated(at, s.round, event.loss, event.metrics)))
    if s.round == 0:
        return commands + begin_round(run, at)
    s.measured = {} if event.loss is None else find_watched(run.rules.pace, event.loss, event.metrics)
    s.kind, s.attempt, s.needed = Kind.EVALUATE, 0, run.rules.min_available
    return commands + wait(run, at)


def summarized(run: Run, event: Summarized, at: float) -> list[Command]:
    s, pace = run.state, run.rules.pace
    central = {name: value for name, value in s.measured.items() if value is not None}
    s.measured = {**find_watched(pace, event.loss, event.metrics), **central}
    notes = (event.note, name_unseen(pace, s, event.loss, event.metrics))
    note = "\n".join(text for text in notes if text)
    return [_publish_closed(run, at, event.loss, event.metrics, note), *_end_round(run, at)]


def _end_round(run: Run, at: float) -> list[Command]:
    s, pace = run.state, run.rules.pace
    s.completed = s.round
    keep_best(pace, s)
    why = reached(pace, s, at)
    s.measured = {}
    return finish(run, at, why) if why else begin_round(run, at)


def _publish_closed(run: Run, at: float, loss: object, metrics: dict[str, object], note: str) -> Publish:
    s = run.state
    counts = len(s.results), len(s.failures)
    return Publish(events.ExchangeClosed(at, s.round, s.kind, *counts, at - s.opened_at, loss, metrics, note))
