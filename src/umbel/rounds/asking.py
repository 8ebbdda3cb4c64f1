"""The questions to the owner's code. One is open at most, and only its answer moves the run on."""

from __future__ import annotations

from msgspec import UNSET

from umbel.population import Clients
from umbel.rounds.exchanges import To
from umbel.rounds.messages import Choose, Command, Evaluate, Initialize, Step, Summarize
from umbel.rounds.state import Phase, Question, Run

__all__ = ["ask", "form"]


def ask(run: Run, question: Question) -> list[Command]:
    """Opens a question."""
    run.state.enter(Phase.ASKING, question)
    run.state.wake_at = None
    return [form(run, question)]


def form(run: Run, question: Question) -> Command:
    """The question, filled in from the present state."""
    s = run.state
    match question:
        case Question.INITIALIZE:
            return Initialize()
        case Question.CHOOSE:
            return _choose(run)
        case Question.STEP:
            updates, facts = run.earlier_updates, s.facts or UNSET
            if updates is None:
                return Step(s.round, s.version, s.answered, s.failed, tuple(s.closed) or UNSET, facts)
            others = (*(closed for closed in s.closed if closed is not updates), s.open)
            return Step(s.round, s.version, updates.results, updates.failures, others, facts)
        case Question.EVALUATE:
            assert s.version is not None
            return Evaluate(s.round, s.version, s.facts or UNSET)
        case Question.SUMMARIZE:
            return Summarize(s.round, s.answered, s.failed, s.facts or UNSET)


def _choose(run: Run) -> Choose:
    s, exchange = run.state, run.exchange
    assert s.version is not None
    busy = [task.client for task in s.carried]
    available = s.pool.present(without=busy)
    if exchange.to is not To.CHOSEN:
        before = s.closed[-1]
        asked = [task.client for task, _ in before.results]
        if exchange.to is To.ASKED:
            asked += [task.client for task, _ in before.failures]
        available = Clients(0, (client for client in asked if client in s.pool))
    name = UNSET if exchange.name == exchange.kind else exchange.name
    closed, facts = tuple(s.closed) or UNSET, s.facts or UNSET
    return Choose(s.round, exchange.kind, s.attempt, s.version, available, len(busy), name, closed, facts)

