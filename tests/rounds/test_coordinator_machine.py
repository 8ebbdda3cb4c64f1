"""Anything may happen, in any order: what stays true of a run, and that a journal of it tells the same story again."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import UNSET
from msgspec.structs import replace

from umbel.pace import Pace
from umbel.rounds.coordinator import Coordinator, Phase, Rules, State
from umbel.rounds.exchanges import EVALUATE, FIT, ROUND, Exchange, To
from umbel.rounds.messages import (
    Cancel,
    Choose,
    Chosen,
    Command,
    Dispatch,
    Evaluate,
    Evaluated,
    Failed,
    Failure,
    FailureKind,
    Initialize,
    Initialized,
    Input,
    Joined,
    Kind,
    Left,
    Lost,
    Member,
    Publish,
    Replied,
    Reply,
    Resumed,
    Settle,
    Started,
    Step,
    Stepped,
    Stopped,
    Summarize,
    Summarized,
    Ticked,
    Verdict,
)
from umbel.rounds.notices import RunFinished
from umbel.runtime.stores.codec import decode_input, decode_state, encode

KEYS, UNMASK = Exchange("keys", Kind.PROPERTIES), Exchange("unmask", Kind.EVALUATE, To.ASKED, pace=Pace(quorum=1))
ROUNDS = {
    "fit": ROUND,
    "candidates": (Exchange("candidates", Kind.EVALUATE), FIT, EVALUATE),
    "keys": (KEYS, replace(FIT, to=To.SURVIVORS), UNMASK, EVALUATE),
}
QUESTIONS = (Initialize, Choose, Step, Evaluate, Summarize)
CLIENTS = [f"client-{letter}" for letter in "abcde"]

paces = st.builds(
    lambda quorum, more, deadline, retries, carry_over, staleness, norm: Pace(
        goal=None if more is None else max(quorum, 1) + more,
        quorum=quorum,
        deadline=deadline,
        retries=retries,
        carry_over=carry_over and more is not None,
        max_staleness=staleness if carry_over and more is not None else None,
        max_update_norm=norm,
    ),
    st.integers(0, 3),
    st.none() | st.integers(0, 2),
    st.none() | st.sampled_from([1.0, 7.5]),
    st.integers(0, 2),
    st.booleans(),
    st.none() | st.integers(0, 2),
    st.sampled_from([None, "auto", 7.5]),
)
failures = st.builds(Failure, st.sampled_from([FailureKind.RAISED, FailureKind.REJECTED]), st.just("it broke"))


class Run(RuleBasedStateMachine):
    """A coordinator, its journal, and a transport and an owner that do whatever hypothesis likes."""

    @initialize(pace=paces, rounds=st.integers(0, 3), min_available=st.integers(0, 3), exchanges=st.sampled_from([*ROUNDS]))
    def start(self, pace, rounds, min_available, exchanges):
        exchanges = ROUNDS["candidates" if pace.carry_over and exchanges == "keys" else exchanges]
        self.rules = Rules(run="run", min_available=min_available, pace=pace, exchanges=exchanges)
        self.rounds = rounds
        self.coordinator = self.fresh()
        self.at = 0.0
        self.journal: list[tuple[Input, float]] = []
        self.said: list[list[Command]] = []
        self.question: Command | None = None
        self.dispatched: dict[str, object] = {}
        self.accepted: list[str] = []
        self.contents = 0
        self.feed(Started())

    def fresh(self) -> Coordinator:
        return Coordinator(self.rules, State(num_rounds=self.rounds))

    def feed(self, event: Input) -> None:
        was_done, version = self.coordinator.done, self.coordinator.state.version
        commands = self.coordinator.handle(event, self.at)
        self.journal.append((event, self.at))
        self.said.append(commands)
        if was_done:
            assert self.coordinator.done, "done is final"
            assert not any(isinstance(command, (*QUESTIONS, Dispatch, Cancel)) for command in commands)
        if isinstance(event, (Initialized, Chosen, Stepped, Evaluated, Summarized, Stopped)):
            self.question = None
        for command in commands:
            if isinstance(command, QUESTIONS):
                assert self.question is None, "two questions at once"
                self.question = command
            if isinstance(command, Dispatch):
                assert command.task.id not in self.dispatched, "one id, two tasks"
                self.dispatched[command.task.id] = command.task
            if isinstance(command, Settle) and command.verdict is Verdict.ACCEPTED:
                self.accepted.append(command.task)
        if version is not None:
            assert self.coordinator.state.version is not None

    # ---- what can happen

    @rule(client=st.sampled_from(CLIENTS))
    def somebody_joins(self, client):
        self.feed(Joined(client))

    @rule(client=st.sampled_from(CLIENTS))
    def somebody_leaves(self, client):
        self.feed(Left(client, "bye"))

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0, 20.0]))
    def time_passes(self, seconds):
        self.at += seconds
        if self.coordinator.wake_at is not None and self.at >= self.coordinator.wake_at:
            self.feed(Ticked())

    @precondition(lambda self: self.coordinator.wake_at is not None)
    @rule()
    def the_alarm_rings(self):
        self.at = max(self.at, self.coordinator.wake_at)
        self.feed(Ticked())

    def content(self) -> str:
        self.contents += 1
        return f"content-{self.contents}"

    @precondition(lambda self: self.coordinator.pending)
    @rule(data=st.data(), count=st.integers(0, 100))
    def a_wanted_reply_comes(self, data, count):
        task = data.draw(st.sampled_from(self.coordinator.pending))
        before = len(self.coordinator.pending)
        norm = UNSET if task.max_norm is UNSET else min(task.max_norm, float(count))
        self.feed(Replied(task.id, Reply(count, 0.5, {"site": task.client, "raw": b"\0"}, self.content(), norm=norm)))
        assert self.said[-1][0] == Settle(task.id, Verdict.ACCEPTED)
        assert task.id not in self.coordinator.state.wanted
        assert len(self.coordinator.pending) < before or self.coordinator.state.phase is not Phase.OPEN

    @precondition(lambda self: self.coordinator.pending)
    @rule(data=st.data(), failure=failures)
    def a_client_fails(self, data, failure):
        self.feed(Failed(data.draw(st.sampled_from(self.coordinator.pending)).id, failure))

    @precondition(lambda self: self.dispatched)
    @rule(data=st.data(), fails=st.booleans(), failure=failures)
    def some_answer_comes_wanted_or_not(self, data, fails, failure):
        task = data.draw(st.sampled_from(sorted(self.dispatched)))
        self.feed(Failed(task, failure) if fails else Replied(task, Reply(1, content=self.content())))

    @rule()
    def a_stranger_answers(self):
        self.feed(Replied("run.0.fit.9.9", Reply(content=self.content())))

    @precondition(lambda self: self.question is not None)
    @rule(data=st.data(), yes=st.booleans())
    def the_owner_answers(self, data, yes):
        match self.question:
            case Initialize():
                self.feed(Initialized(yes))
            case Choose(available=available, kind=kind):
                if not yes:
                    self.feed(data.draw(st.sampled_from([Chosen(), Chosen(needs=2), Chosen(needs=4)])))
                    return
                chosen = data.draw(st.lists(st.sampled_from(available), unique=True)) if available else []
                own = "own-parameters" if kind is Kind.FIT and data.draw(st.booleans()) else None
                self.feed(Chosen(tuple(Member(client, {"lr": 0.5}, own) for client in chosen)))
            case Step(round=number, version=version):
                kept = not yes and version is not None
                void = data.draw(st.sampled_from(["", "too large"])) if kept else ""
                self.feed(Stepped(version if kept else number, {"loss": 1.0}, void=void))
            case Evaluate():
                self.feed(Evaluated(0.5 if yes else None, {"accuracy": 0.5} if yes else {}))
            case Summarize():
                self.feed(Summarized(0.5 if yes else None))

    @rule(seldom=st.integers(0, 19))
    def the_owner_stops(self, seldom):
        if seldom == 0:
            self.feed(Stopped("Ctrl-C"))

    @rule()
    def the_process_dies_and_another_takes_over(self):
        """From the state as it was written, or from the journal: the same machine, and nothing wanted is forgotten."""
        restored = Coordinator(self.rules, decode_state(encode(self.coordinator.state)))
        assert restored.state == self.coordinator.state
        owed = restored.owed()
        assert [command.task for command in owed if isinstance(command, Dispatch)] == list(self.coordinator.pending)
        questions = [command for command in owed if isinstance(command, QUESTIONS)]
        assert [type(question) for question in questions] == [type(question) for question in [self.question] if question]
        assert all(q == self.question or isinstance(q, Choose) for q in questions), "only the choice sees who is there now"
        self.question = questions[0] if questions else None
        self.coordinator = restored
        self.feed(Resumed(self.rounds))

    @rule(data=st.data())
    def the_process_dies_and_files_are_lost(self, data):
        """Whatever is lost: somebody is asked again, or given up, and the run is not at a loss what to do."""
        s = self.coordinator.state
        contents = data.draw(st.lists(st.sampled_from(sorted(s.contents)), unique=True)) if s.contents else []
        versions = data.draw(st.lists(st.sampled_from(sorted(s.versions)), unique=True)) if s.versions else []
        if s.version in versions and not s.spare - set(versions):
            return  # no whole version is left
        self.feed(Lost(tuple(contents), tuple(versions)))
        assert not set(contents) & {reply.content for reply in s.results.values()}
        assert s.phase is Phase.DONE or s.version not in versions
        owed = self.coordinator.owed()
        self.dispatched |= {command.task.id: command.task for command in owed if isinstance(command, Dispatch)}
        self.question = next((command for command in owed if isinstance(command, QUESTIONS)), None)
        assert s.phase in (Phase.WAITING, Phase.DONE) or self.question or self.coordinator.pending
        self.feed(Resumed(self.rounds))

    # ---- what is always true

    @invariant()
    def no_task_is_wanted_and_answered(self):
        s = self.coordinator.state
        wanted, results, failed = set(s.wanted.values()), set(s.results), set(s.failures)
        assert not wanted & results
        assert not wanted & failed
        assert not results & failed
        assert wanted | results | failed <= set(range(len(s.tasks)))
        assert [s.tasks[index].id for index in s.wanted.values()] == list(s.wanted)

    @invariant()
    def nobody_has_two_tasks_at_once(self):
        at_work = [task.client for task in self.coordinator.pending]
        assert len(at_work) == len(set(at_work))

    @invariant()
    def what_is_carried_is_wanted_and_has_its_version(self):
        s = self.coordinator.state
        assert self.rules.pace.carry_over or not (s.carried or s.ahead)
        assert {task.id for task in s.carried} <= {task.id for task in self.coordinator.pending}
        assert {task.version for task in self.coordinator.pending} - {None} <= s.versions

    @invariant()
    def what_was_answered_in_a_round_is_kept_until_its_step(self):
        s = self.coordinator.state
        names = [exchange.name for exchange in self.rules.exchanges]
        assert [closed.exchange for closed in s.closed] == (names[: names.index(s.exchange)] if s.closed else [])

    @invariant()
    def no_answer_counts_twice(self):
        assert len(self.accepted) == len(set(self.accepted))

    @invariant()
    def a_question_is_open_exactly_in_the_phases_that_wait_for_its_answer(self):
        s = self.coordinator.state
        assert (self.question is not None) == (s.phase is Phase.ASKING) == (s.question is not None)

    @invariant()
    def somebody_can_move_the_run_on(self):
        """No phase waits for nothing: there is a question, a task, an alarm, or too few clients."""
        c, s = self.coordinator, self.coordinator.state
        stuck = self.question is None and not c.pending and c.wake_at is None and not c.done
        assert not stuck or len(s.pool) < max(s.needed, 1)

    @invariant()
    def rounds_are_counted(self):
        s = self.coordinator.state
        assert s.completed <= s.round <= self.rounds
        assert s.version is None or s.version <= s.round

    def teardown(self):
        if not hasattr(self, "journal"):
            return
        again = self.fresh()
        for (event, at), said in zip(self.journal, self.said, strict=True):
            assert again.handle(decode_input(type(event).__name__, encode(event)), at) == said
        assert again.state == self.coordinator.state
        ends = [c for said in self.said for c in said if isinstance(c, Publish) and isinstance(c.event, RunFinished)]
        assert len(ends) == self.coordinator.done


SEQUENCES = int(os.environ.get("UMBEL_FUZZ_SEQUENCES", "60"))  # `make fuzz` takes thousands

TestRun = Run.TestCase
TestRun.settings = settings(deadline=None, max_examples=SEQUENCES, stateful_step_count=40)
