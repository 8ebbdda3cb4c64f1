"""Takes what the owner's code answers, and says what follows from it."""

from __future__ import annotations

from msgspec import UNSET

from umbel.rounds import notices
from umbel.rounds.asking import ask
from umbel.rounds.closing import discard_closed, move_on, progress, publish_closed
from umbel.rounds.ending import finish
from umbel.rounds.exchanges import Contribution, To
from umbel.rounds.messages import Chosen, Command, Evaluated, Initialized, Publish, Started, Stepped, Summarized
from umbel.rounds.opening import begin_exchange, begin_round, open_exchange, wait
from umbel.rounds.seeding import begin_seeding
from umbel.rounds.state import Question, Run
from umbel.rounds.stopping import find_watched

__all__ = ["start", "take_chosen", "take_evaluated", "take_initialized", "take_stepped", "take_summarized"]

NORMS = 1000  # of accepted updates, the newest, whose median is the measure for those to come
MAX_VOID = 3  # rounds in a row whose step was given up, before the run ends


def start(run: Run, _: Started, at: float) -> list[Command]:
    return [Publish(notices.RunStarted(at, run.state.num_rounds)), *ask(run, Question.INITIALIZE)]


def take_initialized(run: Run, event: Initialized, at: float) -> list[Command]:
    if not event.given:
        return begin_seeding(run, at)
    run.state.version = 0
    return [Publish(notices.ModelInitialized(at, None)), *_ask_evaluate(run)]


def take_chosen(run: Run, event: Chosen, at: float) -> list[Command]:
    s, exchange = run.state, run.exchange
    at_work = bool(s.carried or s.ahead) and exchange.contributes is not Contribution.METRICS
    if event.needs and not at_work and exchange.to is To.CHOSEN:
        s.needed = max(event.needs, len(s.pool) + 1)
        return wait(run, at)
    if event.members or (at_work and exchange.contributes is Contribution.UPDATES):
        return [*open_exchange(run, event.members, at), *progress(run, at)]
    s.opened_at = at  # the strategy skips this exchange
    match exchange.contributes:
        case Contribution.METRICS:
            return _end_round(run, at)
        case Contribution.ANSWERS:
            return move_on(run, at)
        case _:
            return discard_closed(s) + _ask_evaluate(run)


def take_stepped(run: Run, event: Stepped, at: float) -> list[Command]:
    s, updates = run.state, run.earlier_updates
    if event.version != s.version:
        s.before = s.here
    s.version = event.version
    s.remember(event.facts)
    if run.exchange.contributes is Contribution.PARAMETERS:
        source = s.tasks[0].client if s.tasks else ""
        return [Publish(notices.ModelInitialized(at, source)), *_ask_evaluate(run)]
    s.void_rounds = s.void_rounds + 1 if event.void else 0
    if run.rules.pace.max_update_norm == "auto" and not event.void:
        results = s.answered if updates is None else updates.results
        norms = [reply.norm for _, reply in results if reply.norm is not UNSET and reply.norm > 0]
        s.norms = [*s.norms, *norms][-NORMS:]
    note = "\n".join(text for text in (event.void, event.note) if text)
    closed = publish_closed(s, at, updates, metrics=event.metrics, note=note)
    if s.void_rounds < MAX_VOID:
        return [closed, *_ask_evaluate(run)]
    why = f"{MAX_VOID} rounds in a row were void, round {s.round} the last of them: {event.void}"
    s.closed = []
    return [closed, *finish(run, at, why, error="NotFinite")]


def _ask_evaluate(run: Run) -> list[Command]:
    run.state.forget_exchange()
    run.state.closed = []
    return ask(run, Question.EVALUATE)


def take_evaluated(run: Run, event: Evaluated, at: float) -> list[Command]:
    s = run.state
    s.remember(event.facts)
    commands: list[Command] = []
    if event.loss is not None:
        commands.append(Publish(notices.CentrallyEvaluated(at, s.round, event.loss, event.metrics)))
    if s.round == 0:
        return commands + begin_round(run, at)
    s.measured = {} if event.loss is None else find_watched(run.rules.pace, event.loss, event.metrics)
    s.attempt = 0
    return commands + begin_exchange(run, run.rules.exchanges[-1], at)


def take_summarized(run: Run, event: Summarized, at: float) -> list[Command]:
    s, pace = run.state, run.rules.pace
    s.remember(event.facts)
    central = {name: value for name, value in s.measured.items() if value is not None}
    s.measured = {**find_watched(pace, event.loss, event.metrics), **central}
    notes = (event.note, s.standing.name_unseen(pace, s.measured, event.loss, event.metrics))
    note = "\n".join(text for text in notes if text)
    closed = publish_closed(s, at, loss=event.loss, metrics=event.metrics, note=note)
    return [closed, *_end_round(run, at)]


def _end_round(run: Run, at: float) -> list[Command]:
    s, pace = run.state, run.rules.pace
    s.completed = s.round
    s.standing = s.standing.after(pace, s.measured, s.round, s.version)
    why = s.standing.ends(pace, s.measured, s.round, at)
    s.measured = {}
    return finish(run, at, why) if why else begin_round(run, at)
