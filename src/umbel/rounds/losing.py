"""How a resumed run goes on without files that it has lost. Sends and asks nothing: `owed` has what is due then."""

from __future__ import annotations

from msgspec.structs import replace

from umbel.rounds import notices
from umbel.rounds.answers import publish_failure
from umbel.rounds.closing import progress, try_again
from umbel.rounds.messages import Cancel, Command, Discard, Failure, FailureKind, Lost, Publish, Resumed, Task
from umbel.rounds.opening import begin_round
from umbel.rounds.state import Phase, Question, Run

__all__ = ["extend", "lose"]

RESUME_TIME = 15.0  # seconds that clients have at least, after a resume, to come back with an answer


def extend(run: Run, event: Resumed, at: float) -> list[Command]:
    """Takes up the run in a new process: it may have more rounds, and clients have time to come back."""
    s = run.state
    s.num_rounds = max(s.num_rounds, event.num_rounds)
    if s.wake_at is not None and s.wanted:
        s.wake_at = max(s.wake_at, at + RESUME_TIME)
    return [Publish(notices.RunResumed(at, s.num_rounds, s.round))]


def lose(run: Run, event: Lost, at: float) -> list[Command]:
    """Goes on without what is lost."""
    s = run.state
    s.losses += 1
    if s.version in event.versions:
        commands = _go_back(run, event, at)
    else:
        if s.standing.best_version in event.versions:
            s.standing = s.standing.without_best()
        if s.spare & set(event.versions):
            s.before = None
        commands = _do_without(run, event, at)
    return [command for command in commands if isinstance(command, (Cancel, Discard, Publish))]


def _go_back(run: Run, event: Lost, at: float) -> list[Command]:
    """Goes back to the version before the newest; the rounds since then are done again."""
    s, before = run.state, run.state.before
    if before is None or before.version in event.versions:
        raise RuntimeError("no version of the model is left")
    commands: list[Command] = [Cancel(task, "its round is done again") for task in s.pending]
    replies = [*s.results.values(), *(reply for _, reply in s.kept)]
    commands += [Discard(reply.content) for reply in replies if reply.content is not None]
    there = {None, s.standing.best_version, before.version}.difference(event.versions)  # the others' files are removed
    s.standing = before.standing if before.standing.best_version in there else before.standing.without_best()
    s.version, s.completed, s.norms, s.facts = before.version, before.completed, list(before.norms), before.facts
    s.carried, s.ahead, s.closed, s.measured, s.before, s.ended, s.void_rounds = [], [], [], {}, None, None, 0
    commands.append(Publish(notices.RunRewound(at, s.completed + 1, s.version)))
    return commands + begin_round(run, at)


def _do_without(run: Run, event: Lost, at: float) -> list[Command]:
    """Asks again for the answers that are lost, and gives up the tasks that cannot be done any more."""
    s = run.state
    if {reply.content for closed in s.closed for _, reply in closed.results} & set(event.contents):
        return try_again(run, at, FailureKind.LATE)  # its client is at another exchange of the round by now
    commands, changed = _give_up_carried(run, event, at), False
    busy = {task.client for task in s.pending}  # at another task by now
    for place, task in enumerate(s.tasks):
        reply = s.results.get(place)
        answer_lost = reply is not None and reply.content in event.contents
        needed = place not in s.failures and (reply is None or task.version in event.versions)
        why = _hopeless(task, event) if needed else ""
        if answer_lost and task.client in busy:
            why = why or "its answer is lost"
        if why:
            s.results.pop(place, None)
            s.failures[place] = Failure(FailureKind.LOST, why)
            if reply is None:
                commands.append(Cancel(task, why))
            commands.append(publish_failure(task, s.failures[place], at))
        elif answer_lost:
            del s.results[place]
            busy.add(task.client)
            s.tasks[place] = replace(task, id=f"{task.id}r{s.losses}")  # its client was told that the answer has counted
        else:
            continue
        changed = True
    if not changed:
        return commands
    unanswered = (place for place in range(len(s.tasks)) if place not in s.results and place not in s.failures)
    s.wanted = {s.tasks[place].id: place for place in unanswered}
    if s.question is Question.STEP:
        deadline = run.pace.deadline
        s.enter(Phase.OPEN)
        s.wake_at = None if deadline is None else at + deadline
    return commands + progress(run, at)


def _give_up_carried(run: Run, event: Lost, at: float) -> list[Command]:
    """Gives up what earlier rounds have left, where it cannot be done any more."""
    s = run.state
    commands: list[Command] = []
    for task in [task for task in s.carried if _hopeless(task, event)]:
        s.carried.remove(task)
        failure = Failure(FailureKind.LOST, _hopeless(task, event))
        commands += [Cancel(task, failure.text), publish_failure(task, failure, at)]
    for task, reply in list(s.ahead):
        why = _hopeless(task, event) or ("its answer is lost" if reply.content in event.contents else "")
        if why:
            s.ahead.remove((task, reply))
            commands.append(publish_failure(task, Failure(FailureKind.LOST, why), at))
    return commands


def _hopeless(task: Task, event: Lost) -> str:
    """Why this task cannot be done any more; "" where it can."""
    if task.version in event.versions:
        return f"version {task.version} of the model, from which it starts, is lost"
    return "the parameters that were made for it are lost" if task.content in event.contents else ""
