"""What clients answer: taken while it is wanted, told to be late afterwards. Knows no strategy.

An answer to a task that was carried over from an earlier round is kept for the next, whatever the run is at.
"""

from __future__ import annotations

from umbel.rounds import notices
from umbel.rounds.messages import (
    Command,
    Discard,
    Failed,
    Failure,
    FailureKind,
    Publish,
    Replied,
    Reply,
    Reported,
    Settle,
    Task,
    Verdict,
)
from umbel.rounds.state import Run, State

__all__ = [
    "publish_failure",
    "settle_late",
    "settle_late_failure",
    "settle_late_report",
    "take_failure",
    "take_reply",
    "take_report",
]


def take_reply(run: Run, event: Replied, at: float) -> list[Command]:
    s = run.state
    place = s.wanted.pop(event.task, None)
    if place is None:
        return settle_late(run, event, at)
    s.results[place] = event.reply
    return [Settle(event.task, Verdict.ACCEPTED), _publish_success(s.tasks[place], event.reply, at)]


def take_report(run: Run, event: Reported, at: float) -> list[Command]:
    """Takes a worker's answers, of which all count or none."""
    s = run.state
    if any(task not in s.wanted for task, _ in event.replies):
        return settle_late_report(run, event, at)
    commands: list[Command] = []
    for name, reply in event.replies:
        place = s.wanted.pop(name)
        s.results[place] = reply
        commands.append(_publish_success(s.tasks[place], reply, at))
    return commands


def take_failure(run: Run, event: Failed, at: float) -> list[Command]:
    s = run.state
    place = s.wanted.pop(event.task, None)
    if place is None:
        return settle_late_failure(run, event, at)
    s.failures[place] = event.failure
    return _note_failure(s.tasks[place], event.failure, at)


def settle_late(run: Run, event: Replied, at: float) -> list[Command]:
    """Says to the sender of an answer that is not wanted now whether it counts already, or came too late."""
    s = run.state
    carried = s.find_carried(event.task)
    if carried is not None:
        return [Settle(event.task, Verdict.ACCEPTED), _keep_ahead(s, carried, event.reply, at)]
    counted = {task.id: reply for task, reply in (*s.answered, *s.kept)}
    if event.task in counted:
        settle = Settle(event.task, Verdict.ALREADY)
    else:
        settle = Settle(event.task, Verdict.STALE, "the round closed before this reply came")
    content = event.reply.content
    if content is None or (event.task in counted and content == counted[event.task].content):
        return [settle]
    return [Discard(content), settle]


def settle_late_report(run: Run, event: Reported, at: float) -> list[Command]:
    s = run.state
    carried = [s.find_carried(name) for name, _ in event.replies]
    pairs = list(zip(carried, event.replies, strict=True))
    if any(carried):
        return [_keep_ahead(s, task, reply, at) for task, (_, reply) in pairs if task is not None]
    counted = {reply.content for _, reply in (*s.answered, *s.kept)}
    contents = [reply.content for _, reply in event.replies]
    return [Discard(content) for content in contents if content is not None and content not in counted]


def settle_late_failure(run: Run, event: Failed, at: float) -> list[Command]:
    carried = run.state.find_carried(event.task)
    if carried is not None:
        run.state.carried.remove(carried)
        return _note_failure(carried, event.failure, at)
    return [Settle(event.task, Verdict.STALE, event.failure.text)]


def publish_failure(task: Task, failure: Failure, at: float) -> Publish:
    failed = notices.TaskFailed(at, task.round, task.name, task.client, failure.kind, failure.text, failure.detail)
    return Publish(failed)


def _publish_success(task: Task, reply: Reply, at: float) -> Publish:
    return Publish(notices.TaskSucceeded(at, task.round, task.name, task.client, reply.num_examples))


def _note_failure(task: Task, failure: Failure, at: float) -> list[Command]:
    verdict = Verdict.REJECTED if failure.kind is FailureKind.REJECTED else Verdict.NOTED
    why = "" if failure.kind is FailureKind.EMPTY else failure.text  # nothing is wrong
    return [Settle(task.id, verdict, why), publish_failure(task, failure, at)]


def _keep_ahead(s: State, task: Task, reply: Reply, at: float) -> Publish:
    """Keeps an answer that comes between two rounds for the next."""
    s.carried.remove(task)
    s.ahead.append((task, reply))
    return _publish_success(task, reply, at)
