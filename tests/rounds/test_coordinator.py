"""The coordinator as a script: inputs go in, commands come out, and time is a number. No thread, no socket, no sleep.

Every (phase, input) pair of the transition table is exercised here; the last test says which one is not.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

import pytest
from msgspec.structs import replace

from umbel.pace import Pace
from umbel.population import Clients
from umbel.rounds import notices
from umbel.rounds.coordinator import ANSWERS, TRANSITIONS, Coordinator, Phase, Question, Rules, State
from umbel.rounds.exchanges import EVALUATE, FIT, Exchange, To
from umbel.rounds.messages import (
    Cancel,
    Choose,
    Chosen,
    Command,
    Discard,
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
    Populated,
    Publish,
    Replied,
    Reply,
    Reported,
    Resumed,
    Settle,
    Started,
    Step,
    Stepped,
    Stopped,
    Summarize,
    Summarized,
    Task,
    Ticked,
    Verdict,
)
from umbel.rounds.seeding import EMPTY_GRACE, MOST_EMPTY, SEED_RETRY
from umbel.runtime.stores.codec import decode_state, encode
from umbel.until import Until

AB = Clients(0, ["a", "b"])
CLASSIC = Pace(quorum=0, retries=0)
EXERCISED: set[tuple[Phase, type[Input]]] = set()


class Moment(StrEnum):
    """Where a run is, told by its phase and by the question that is open or the exchange."""

    NEW = "new"
    INIT = "asking initialize"
    SEEDING = "open parameters"
    WAITING = "waiting"
    CHOOSING = "asking choose"
    FIT = "open fit"
    STEPPING = "asking step"
    TESTING = "asking evaluate"
    EVALUATE = "open evaluate"
    SUMMARIZING = "asking summarize"
    DONE = "done"

    @property
    def question(self) -> Question | None:
        return Question(self.split()[1]) if self.startswith("asking") else None


class Story:
    """Drives one coordinator, and keeps what a test wants to look at."""

    def __init__(self, *, rounds: int = 1, pace: Pace = CLASSIC, min_available: int = 2) -> None:
        rules = Rules(run="run", min_available=min_available, pace=pace)
        self.coordinator = Coordinator(rules, State(num_rounds=rounds))
        self.at = 0.0

    @property
    def state(self) -> State:
        return self.coordinator.state

    @property
    def moment(self) -> Moment:
        s = self.state
        if s.phase is Phase.WAITING and s.exchange == "parameters":  # for somebody to ask
            return Moment.SEEDING
        return Moment(" ".join([s.phase, *({Phase.ASKING: [s.question], Phase.OPEN: [s.exchange]}.get(s.phase, []))]))

    def say(self, *inputs: Input, at: float | None = None) -> list[Command]:
        """Hands in the inputs; the commands of the last one."""
        self.at = self.at if at is None else at
        commands: list[Command] = []
        for event in inputs:
            EXERCISED.add((self.state.phase, type(event)))
            commands = self.coordinator.handle(event, self.at)
        return commands

    def to(self, phase: Moment) -> Story:
        """Goes straight to the first moment of a phase, with clients a and b."""
        road = {
            Moment.INIT: [Started()],
            Moment.SEEDING: [Initialized(False)],
            Moment.WAITING: [Evaluated()],
            Moment.CHOOSING: [Joined("a"), Joined("b")],
            Moment.FIT: [Chosen((Member("a", {"lr": 0.5}), Member("b")))],
            Moment.STEPPING: [reply("fit", 0), reply("fit", 1)],
            Moment.TESTING: [Stepped(1)],
            Moment.EVALUATE: [Evaluated(), Chosen((Member("a"), Member("b")))],
            Moment.SUMMARIZING: [reply("evaluate", 0), reply("evaluate", 1)],
            Moment.DONE: [Summarized()],
        }
        for step, inputs in road.items():
            detour = step is Moment.SEEDING and phase is not Moment.SEEDING
            self.say(*([Initialized(True)] if detour else inputs))
            if step is phase:
                break
        assert self.moment is phase
        return self


def task(kind: str = "fit", index: int = 0, *, attempt: int = 0, number: int = 1, **changes: object) -> Task:
    """The task that a `Story` on its straight road dispatches."""
    first = Task(
        id=f"run.{number}.{kind}.{attempt}.{index}",
        round=number,
        kind=Kind(kind),
        index=index,
        cohort=2,
        client="ab"[index],
        version={"parameters": None, "fit": number - 1, "evaluate": number}[kind],
        config={"lr": 0.5} if (kind, index, attempt) == ("fit", 0, 0) else {},
    )
    return replace(first, **changes)


def reply(kind: str = "fit", index: int = 0, **options: int) -> Replied:
    asked = task(kind, index, **options)
    return Replied(asked.id, Reply(10 + index, 0.5, {}, None if kind == "evaluate" else f"content {asked.id}"))


def seed_reply(attempt: int = 1) -> Replied:
    return Replied(f"run.0.parameters.{attempt}.0", Reply(content=f"seed {attempt}"))


def failed(kind: str = "fit", index: int = 0, why: FailureKind = FailureKind.RAISED, **options: int) -> Failed:
    return Failed(task(kind, index, **options).id, Failure(why, "it broke", "Traceback"))


def failure_event(asked: Task, why: str, text: str, at: float = 0.0, detail: str = "") -> Publish:
    return Publish(notices.TaskFailed(at, asked.round, asked.kind, asked.client, why, text, detail))


def success_event(asked: Task, at: float = 0.0) -> Publish:
    return Publish(notices.TaskSucceeded(at, asked.round, asked.kind, asked.client, 10 + asked.index))


# ---- the start


def test_a_run_starts_by_asking_the_strategy_for_parameters():
    assert Story(rounds=3).say(Started()) == [Publish(notices.RunStarted(0.0, 3)), Initialize()]


def test_given_parameters_are_version_0_and_are_evaluated_centrally():
    story = Story().to(Moment.INIT)
    assert story.say(Initialized(True)) == [Publish(notices.ModelInitialized(0.0, None)), Evaluate(0, 0)]
    assert story.moment is Moment.TESTING


def test_clients_that_come_and_go_while_the_strategy_thinks_are_noted():
    story = Story().to(Moment.INIT)
    assert story.say(Joined("a")) == [Publish(notices.ClientJoined(0.0, "a", 1))]
    assert story.say(Joined("a")) == []
    assert story.say(Left("a", "bye")) == [Publish(notices.ClientLeft(0.0, "a", 0, "bye"))]
    assert story.say(Left("a", "bye")) == []


# ---- the first parameters come from a client


def seeding(**options: object) -> Story:
    return Story(**options).to(Moment.SEEDING)  # type: ignore[arg-type]


SEED = task("parameters", number=0, attempt=1, cohort=1, config={})


def test_without_clients_the_run_waits_for_enough_of_them():
    story = Story().to(Moment.INIT)
    assert story.say(Initialized(False)) == [Publish(notices.WaitingForClients(0.0, 0, 0, 2))]
    assert story.coordinator.waiting_for == "clients: 0 of 2 available"


def test_the_first_client_by_name_is_asked_once_enough_are_there():
    story = seeding()
    assert story.say(Joined("b")) == [
        Publish(notices.ClientJoined(0.0, "b", 1)),
        Publish(notices.WaitingForClients(0.0, 0, 1, 2)),
    ]
    assert story.say(Joined("a")) == [
        Publish(notices.ClientJoined(0.0, "a", 2)),
        Publish(notices.CohortChosen(0.0, 0, Kind.PARAMETERS, 1, ("a",), 2)),
        Dispatch(SEED),
    ]
    assert story.coordinator.waiting_for == "parameters of round 0 from a"
    assert story.say(Joined("c")) == [Publish(notices.ClientJoined(0.0, "c", 3))]


def test_its_parameters_become_version_0():
    story = seeding()
    story.say(Joined("a"), Joined("b"))
    answer = seed_reply()
    assert story.say(answer) == [
        Settle(SEED.id, Verdict.ACCEPTED),
        Publish(notices.TaskSucceeded(0.0, 0, Kind.PARAMETERS, "a", 0)),
        Step(0, None, ((SEED, answer.reply),), ()),
    ]
    assert story.say(Stepped(0)) == [Publish(notices.ModelInitialized(0.0, "a")), Evaluate(0, 0)]


@pytest.mark.parametrize("event", [Failed(SEED.id, Failure(FailureKind.RAISED, "no")), Left("a", "killed"), Ticked()])
def test_a_client_that_gives_no_parameters_is_followed_by_the_next(event):
    story = seeding(pace=Pace(deadline=30))
    story.say(Joined("a"), Joined("b"), Joined("c"))
    commands = story.say(event, at=30.0)
    second = replace(SEED, id="run.0.parameters.2.0", client="b", at=30.0)
    assert commands[-1] == Dispatch(second)
    assert story.coordinator.pending == (second,)


def test_a_client_that_leaves_while_it_is_asked_is_not_waited_for():
    story = seeding()
    story.say(Joined("a"), Joined("b"))
    assert story.say(Left("b", "bye")) == [Publish(notices.ClientLeft(0.0, "b", 1, "bye"))]
    assert story.say(Left("a", "killed")) == [
        Publish(notices.ClientLeft(0.0, "a", 0, "killed")),
        Cancel(SEED, "the round closed"),
        failure_event(SEED, "left", "the client went away"),
        Publish(notices.WaitingForClients(0.0, 0, 0, 2)),
    ]


def test_clients_without_parameters_are_asked_again_after_a_while():
    story = seeding(min_available=1)
    story.say(Joined("a"))
    failure = Failed(SEED.id, Failure(FailureKind.RAISED, "not yet"))
    assert story.say(failure, at=1.0) == [
        Settle(SEED.id, Verdict.NOTED, "not yet"),
        failure_event(SEED, "raised", "not yet", 1.0),
        Publish(notices.WaitingForClients(1.0, 0, 0, 2)),
    ]
    assert story.coordinator.wake_at == 1.0 + SEED_RETRY
    again = replace(SEED, id="run.0.parameters.2.0", at=1.0 + SEED_RETRY)
    assert story.say(Ticked(), at=1.0 + SEED_RETRY)[-1] == Dispatch(again)


def without_parameters(story, *, attempt, at=0.0):
    return story.say(Failed(f"run.0.parameters.{attempt}.0", Failure(FailureKind.EMPTY, "has none")), at=at)


def test_where_all_have_said_that_they_have_no_parameters_the_run_begins_with_an_empty_model():
    story = seeding()
    story.say(Joined("a"), Joined("b"))
    assert isinstance(without_parameters(story, attempt=1)[-1], Dispatch)
    assert without_parameters(story, attempt=2, at=1.0) == [
        Settle("run.0.parameters.2.0", Verdict.NOTED),  # there is nothing to complain of
        failure_event(replace(SEED, id="run.0.parameters.2.0", client="b"), "empty", "has none", 1.0),
    ]
    assert story.coordinator.wake_at == 1.0 + EMPTY_GRACE
    assert story.say(Ticked(), at=3.0) == [Step(0, None, (), ())]
    assert story.coordinator.owed() == [Step(0, None, (), ())]
    assert story.say(Stepped(0), at=3.0) == [Publish(notices.ModelInitialized(3.0, "")), Evaluate(0, 0)]


def test_who_comes_meanwhile_is_asked_first():
    story = seeding(min_available=1)
    story.say(Joined("a"))
    without_parameters(story, attempt=1)
    assert story.say(Joined("c"))[-1].task.client == "c"
    assert story.say(seed_reply(attempt=2))[-1].results[0][0].client == "c"


def test_nobody_else_can_come_to_a_whole_population():
    story = seeding()
    story.say(Populated(2))
    without_parameters(story, attempt=1)
    assert without_parameters(story, attempt=2)[-1] == Step(0, None, (), ())


def test_a_hundred_speak_for_a_million():
    story = seeding()
    story.say(Populated(1_000_000))
    for number in range(1, MOST_EMPTY):
        assert isinstance(without_parameters(story, attempt=number)[-1], Dispatch)
    assert without_parameters(story, attempt=MOST_EMPTY)[-1] == Step(0, None, (), ())


def test_a_client_that_raises_has_said_nothing_and_is_asked_again():
    story = seeding()
    story.say(Joined("a"), Joined("b"))
    without_parameters(story, attempt=1)
    story.say(Failed("run.0.parameters.2.0", Failure(FailureKind.RAISED, "not yet")))
    assert story.coordinator.wake_at == SEED_RETRY
    again = story.say(Ticked(), at=SEED_RETRY)
    assert [command.task.client for command in again if isinstance(command, Dispatch)] == ["b"]
    assert story.say(seed_reply(attempt=3))[-1].results[0][0].client == "b"


def test_without_the_one_that_raised_all_have_said_it():
    story = seeding(min_available=1)
    story.say(Joined("a"), Joined("b"))
    without_parameters(story, attempt=1)
    story.say(Failed("run.0.parameters.2.0", Failure(FailureKind.RAISED, "not yet")))
    story.say(Left("b", "bye"), at=1.0)
    assert story.say(Ticked(), at=1.0 + EMPTY_GRACE) == [Step(0, None, (), ())]


def test_who_comes_back_may_have_parameters_by_now():
    story = seeding(min_available=1)
    story.say(Joined("a"))
    without_parameters(story, attempt=1)
    story.say(Left("a", "bye"))
    assert story.say(Ticked(), at=EMPTY_GRACE)[-1] == Publish(notices.WaitingForClients(EMPTY_GRACE, 0, 0, 1))
    assert isinstance(story.say(Joined("a"))[-1], Dispatch)


def test_late_parameters_are_stale_and_their_content_is_not_kept():
    story = seeding(pace=Pace(deadline=5))
    story.say(Joined("a"), Joined("b"))
    story.say(Ticked(), at=5.0)
    late = seed_reply(attempt=1)
    assert story.say(late) == [
        Discard("seed 1"),
        Settle(SEED.id, Verdict.STALE, "the round closed before this reply came"),
    ]
    assert story.say(Failed(SEED.id, Failure(FailureKind.RAISED, "no"))) == [Settle(SEED.id, Verdict.STALE, "no")]


def test_stopping_while_parameters_are_asked_for_recalls_the_question():
    story = seeding()
    story.say(Joined("a"), Joined("b"))
    assert story.say(Stopped("Ctrl-C")) == [
        Cancel(SEED, "Ctrl-C"),
        Publish(notices.RunFinished(0.0, 0, "Ctrl-C", "", True)),
    ]


# ---- waiting and choosing


def test_a_round_waits_for_enough_clients_and_then_asks_whom():
    story = Story()
    story.say(Started(), Initialized(True))
    assert story.say(Evaluated(0.7, {"accuracy": 0.1})) == [
        Publish(notices.CentrallyEvaluated(0.0, 0, 0.7, {"accuracy": 0.1})),
        Publish(notices.RoundStarted(0.0, 1, 1)),
        Publish(notices.WaitingForClients(0.0, 1, 0, 2)),
    ]
    assert story.coordinator.waiting_for == "clients: 0 of 2 available"
    assert story.say(Joined("b")) == [Publish(notices.ClientJoined(0.0, "b", 1))]
    assert story.say(Left("b", "bye")) == [Publish(notices.ClientLeft(0.0, "b", 0, "bye"))]
    story.say(Joined("b"))
    assert story.say(Joined("a")) == [
        Publish(notices.ClientJoined(0.0, "a", 2)),
        Choose(1, Kind.FIT, 0, 0, AB),
    ]


def test_a_round_with_enough_clients_does_not_wait():
    story = Story()
    story.say(Started(), Initialized(True), Joined("a"), Joined("b"))
    assert story.say(Evaluated()) == [Publish(notices.RoundStarted(0.0, 1, 1)), Choose(1, Kind.FIT, 0, 0, AB)]


def test_a_strategy_that_needs_more_clients_is_asked_again_when_they_are_there():
    story = Story().to(Moment.CHOOSING)
    assert story.say(Chosen(needs=3)) == [Publish(notices.WaitingForClients(0.0, 1, 2, 3))]
    assert story.say(Joined("c"))[-1] == Choose(1, Kind.FIT, 0, 0, Clients(0, ["a", "b", "c"]))


def test_a_strategy_that_needs_fewer_clients_than_there_are_is_not_asked_in_a_loop():
    story = Story().to(Moment.CHOOSING)
    assert story.say(Chosen(needs=1)) == [Publish(notices.WaitingForClients(0.0, 1, 2, 3))]


def test_the_cohort_is_asked_in_the_order_of_the_strategy():
    story = Story().to(Moment.CHOOSING)
    assert story.say(Chosen((Member("a", {"lr": 0.5}), Member("b", {}, "own-1")))) == [
        Publish(notices.CohortChosen(0.0, 1, Kind.FIT, 0, ("a", "b"), 2)),
        Dispatch(task("fit", 0)),
        Dispatch(task("fit", 1, content="own-1")),
    ]
    assert story.state.contents == {"own-1"}
    assert story.coordinator.waiting_for == "fit of round 1 from a, b"


def test_an_empty_cohort_skips_the_training():
    assert Story().to(Moment.CHOOSING).say(Chosen()) == [Evaluate(1, 0)]


def test_an_empty_cohort_skips_the_evaluation_and_the_round_is_over():
    story = Story().to(Moment.TESTING)
    story.say(Evaluated())
    assert story.say(Chosen()) == [Publish(notices.RunFinished(0.0, 1, "all rounds done"))]


def test_a_tick_changes_nothing_before_there_are_enough_clients():
    assert Story().to(Moment.WAITING).say(Ticked()) == []


# ---- training


def test_the_last_reply_closes_the_round_and_results_are_in_task_order():
    story = Story().to(Moment.FIT)
    assert story.say(reply("fit", 1)) == [Settle(task("fit", 1).id, Verdict.ACCEPTED), success_event(task("fit", 1))]
    a, b = reply("fit", 0), reply("fit", 1)
    assert story.say(a) == [
        Settle(task("fit", 0).id, Verdict.ACCEPTED),
        success_event(task("fit", 0)),
        Step(1, 0, ((task("fit", 0), a.reply), (task("fit", 1), b.reply)), ()),
    ]
    assert story.state.contents == {a.reply.content, b.reply.content}


def test_a_failure_is_noted_and_the_round_closes_with_the_others():
    story = Story().to(Moment.FIT)
    assert story.say(failed("fit", 0)) == [
        Settle(task("fit", 0).id, Verdict.NOTED, "it broke"),
        failure_event(task("fit", 0), "raised", "it broke", detail="Traceback"),
    ]
    b, why = reply("fit", 1), failed("fit", 0).failure
    assert story.say(b)[-1] == Step(1, 0, ((task("fit", 1), b.reply),), ((task("fit", 0), why),))


def test_a_rejected_reply_is_told_so():
    story = Story().to(Moment.FIT)
    assert story.say(failed("fit", 0, FailureKind.REJECTED))[0] == Settle(task("fit", 0).id, Verdict.REJECTED, "it broke")


def test_a_classic_round_counts_even_if_everyone_failed():
    story = Story().to(Moment.FIT)
    story.say(failed("fit", 0))
    commands = story.say(failed("fit", 1))
    whys = tuple((task("fit", index), failed("fit", index).failure) for index in (0, 1))
    assert commands[-1] == Step(1, 0, (), whys)


def test_the_same_reply_twice_counts_once():
    story = Story().to(Moment.FIT)
    story.say(reply("fit", 0))
    assert story.say(reply("fit", 0)) == [Settle(task("fit", 0).id, Verdict.ALREADY)]
    assert len(story.state.results) == 1


def test_a_second_and_different_reply_is_not_counted_and_its_content_is_not_kept():
    story = Story().to(Moment.FIT)
    first = reply("fit", 0)
    story.say(first)
    other = Replied(first.task, replace(first.reply, content="another"))
    assert story.say(other) == [Discard("another"), Settle(first.task, Verdict.ALREADY)]
    assert story.state.results[0] == first.reply


def test_a_reply_to_a_task_that_nobody_gave_is_stale():
    stranger = Replied("run.1.fit.0.99", Reply(content="strange"))
    assert Story().to(Moment.FIT).say(stranger) == [
        Discard("strange"),
        Settle(stranger.task, Verdict.STALE, "the round closed before this reply came"),
    ]


def test_a_reply_after_the_failure_of_its_task_is_stale():
    story = Story().to(Moment.FIT)
    story.say(failed("fit", 0))
    assert [type(command) for command in story.say(reply("fit", 0))] == [Discard, Settle]
    assert story.state.results == {}


def test_clients_that_join_during_training_are_noted():
    story = Story().to(Moment.FIT)
    assert story.say(Joined("c")) == [Publish(notices.ClientJoined(0.0, "c", 3))]


def test_a_client_that_left_is_waited_for_while_others_still_train():
    story = Story().to(Moment.FIT)
    assert story.say(Left("a", "killed")) == [Publish(notices.ClientLeft(0.0, "a", 1, "killed"))]
    assert story.coordinator.waiting_for == "fit of round 1 from a (gone), b"


def test_a_client_that_left_comes_back_and_its_reply_counts():
    story = Story().to(Moment.FIT)
    story.say(Left("a", "killed"), Joined("a"), reply("fit", 0))
    assert set(story.state.results) == {0}


def test_the_round_closes_without_clients_that_left():
    story = Story().to(Moment.FIT)
    story.say(Left("a", "killed"))
    b = reply("fit", 1)
    gone = Failure(FailureKind.LEFT, "the client went away")
    assert story.say(b, at=2.0) == [
        Settle(b.task, Verdict.ACCEPTED),
        success_event(task("fit", 1), 2.0),
        Cancel(task("fit", 0), "the round closed"),
        failure_event(task("fit", 0), "left", gone.text, 2.0),
        Step(1, 0, ((task("fit", 1), b.reply),), ((task("fit", 0), gone),)),
    ]


def test_everyone_left_and_nobody_answered_so_the_round_waits_for_their_return():
    story = Story().to(Moment.FIT)
    assert story.say(Left("a"), Left("b")) == [Publish(notices.ClientLeft(0.0, "b", 0, ""))]
    assert story.moment is Moment.FIT
    assert story.say(Joined("b")) == [Publish(notices.ClientJoined(0.0, "b", 1))]
    story.say(reply("fit", 1))
    assert story.moment is Moment.STEPPING


def test_everyone_left_but_a_new_cohort_can_be_chosen_so_the_attempt_is_void():
    story = Story(min_available=1).to(Moment.FIT)
    story.say(Left("a"), Left("b"))
    commands = story.say(Joined("c"), at=3.0)
    assert [type(command) for command in commands] == [Publish, Cancel, Publish, Cancel, Publish]
    assert (story.moment, story.state.attempt, story.coordinator.wake_at) == (Moment.WAITING, 1, 4.0)
    assert story.say(Ticked(), at=4.0) == [Choose(1, Kind.FIT, 1, 0, Clients(0, ["c"]))]


def test_the_pause_between_attempts_grows_to_five_seconds_and_stays_there():
    story = Story(min_available=1, pace=Pace(quorum=1, retries=5000))
    story.say(Started(), Initialized(True), Evaluated(), Joined("a"))
    pauses = []
    for attempt in range(1100):
        story.say(Chosen((Member("a"),)))
        story.say(Failed(f"run.1.fit.{attempt}.0", Failure(FailureKind.RAISED, "no")))
        pauses.append(story.coordinator.wake_at - story.at)
        story.say(Ticked(), at=story.coordinator.wake_at)
    assert pauses[:5] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert set(pauses[5:]) == {5.0}


def test_a_pause_is_not_shortened_by_clients_that_join():
    story = Story(pace=Pace(quorum=1, retries=1)).to(Moment.FIT)
    story.say(failed("fit", 0), failed("fit", 1))
    assert story.say(Joined("c"), at=0.5) == [Publish(notices.ClientJoined(0.5, "c", 3))]
    assert story.say(Ticked(), at=1.0) == [Choose(1, Kind.FIT, 1, 0, Clients(0, ["a", "b", "c"]))]


def test_too_few_updates_void_the_attempt_and_what_came_is_not_kept():
    story = Story(pace=Pace(quorum=2, retries=1)).to(Moment.FIT)
    a = reply("fit", 0)
    story.say(a)
    assert story.say(failed("fit", 1)) == [
        Settle(task("fit", 1).id, Verdict.NOTED, "it broke"),
        failure_event(task("fit", 1), "raised", "it broke", detail="Traceback"),
        Discard(a.reply.content),
    ]
    assert (story.moment, story.state.attempt, story.state.results) == (Moment.WAITING, 1, {})


def test_too_few_updates_in_every_attempt_end_the_run():
    story = Story(pace=Pace(quorum=1, retries=0)).to(Moment.FIT)
    story.say(failed("fit", 0))
    why = "round 1 got 0 of 1 updates in 1 attempts"
    assert story.say(failed("fit", 1))[-1] == Publish(notices.RunFinished(0.0, 0, why, "QuorumNotMet", False))
    assert story.coordinator.done


def test_the_deadline_closes_the_round_without_the_straggler():
    story = Story(pace=Pace(quorum=0, retries=0, deadline=10)).to(Moment.FIT)
    a = reply("fit", 0)
    story.say(a, at=4.0)
    assert story.coordinator.wake_at == 10.0
    assert story.say(Ticked(), at=9.9) == []
    late = Failure(FailureKind.LATE, "no answer after 10.0 s")
    assert story.say(Ticked(), at=10.0) == [
        Cancel(task("fit", 1), "the round closed"),
        failure_event(task("fit", 1), "late", late.text, 10.0),
        Step(1, 0, ((task("fit", 0), a.reply),), ((task("fit", 1), late),)),
    ]
    assert story.say(reply("fit", 1), at=11.0) == [
        Discard(reply("fit", 1).reply.content),
        Settle(task("fit", 1).id, Verdict.STALE, "the round closed before this reply came"),
    ]


def test_a_tick_without_a_deadline_changes_nothing():
    assert Story().to(Moment.FIT).say(Ticked(), at=1e6) == []


def test_enough_updates_for_the_goal_close_the_round():
    story = Story(pace=Pace(goal=1)).to(Moment.FIT)
    commands = story.say(reply("fit", 1))
    assert Cancel(task("fit", 0), "the round closed") in commands
    assert isinstance(commands[-1], Step)


# ---- the step, and the owner's own evaluation


def test_a_step_is_followed_by_the_central_evaluation():
    story = Story().to(Moment.STEPPING)
    assert story.say(Stepped(1, {"loss": 0.25}, "noted"), at=2.0) == [
        Publish(notices.ExchangeClosed(2.0, 1, Kind.FIT, 2, 0, 2.0, None, {"loss": 0.25}, "noted")),
        Evaluate(1, 1),
    ]


def test_a_step_may_keep_the_model():
    story = Story().to(Moment.STEPPING)
    assert story.say(Stepped(0))[-1] == Evaluate(1, 0)


def test_a_void_step_says_why_and_goes_on_as_one_that_keeps_the_model():
    story = Story().to(Moment.STEPPING)
    assert story.say(Stepped(0, void="too large")) == [
        Publish(notices.ExchangeClosed(0.0, 1, Kind.FIT, 2, 0, 0.0, None, {}, "too large")),
        Evaluate(1, 0),
    ]


@pytest.mark.parametrize("void", [["x", "x", "x"], ["x", "x", "", "x", "x"], ["x", "x", "", "x", "x", "x"]])
def test_the_third_void_step_in_a_row_ends_the_run_also_after_a_resume(void):
    story = Story(rounds=9).to(Moment.STEPPING)
    for number, why in enumerate(void, 1):
        state = decode_state(encode(story.state))  # the server died here, and another took over
        story.coordinator = Coordinator(story.coordinator.rules, state)
        commands = story.say(Stepped(0, void=why))
        if number < len(void):
            story.say(Evaluated(), Chosen(), Chosen((Member("a"),)))
            story.say(Replied(f"run.{number + 1}.fit.0.0", Reply(1, content=f"c{number}")))
    ended = void[-3:] == ["x", "x", "x"]
    assert (story.moment is Moment.DONE) is ended
    if ended:
        why = f"3 rounds in a row were void, round {len(void)} the last of them: x"
        assert commands[-1] == Publish(notices.RunFinished(0.0, len(void) - 1, why, "NotFinite"))


def test_after_the_central_evaluation_comes_the_clients_own():
    story = Story().to(Moment.TESTING)
    assert story.say(Evaluated(0.5)) == [
        Publish(notices.CentrallyEvaluated(0.0, 1, 0.5, {})),
        Choose(1, Kind.EVALUATE, 0, 1, AB),
    ]


# ---- evaluation by the clients


def test_the_evaluations_are_summarized_in_task_order_and_the_run_is_over():
    story = Story().to(Moment.EVALUATE)
    a, b = reply("evaluate", 0), reply("evaluate", 1)
    story.say(b)
    assert story.say(a)[-1] == Summarize(1, ((task("evaluate", 0), a.reply), (task("evaluate", 1), b.reply)), ())
    assert story.say(Summarized(0.5, {"accuracy": 0.9}), at=1.0) == [
        Publish(notices.ExchangeClosed(1.0, 1, Kind.EVALUATE, 2, 0, 1.0, 0.5, {"accuracy": 0.9}, "")),
        Publish(notices.RunFinished(1.0, 1, "all rounds done")),
    ]
    assert story.coordinator.done


def test_after_one_round_comes_the_next():
    story = Story(rounds=2).to(Moment.SUMMARIZING)
    assert story.say(Summarized())[1:] == [Publish(notices.RoundStarted(0.0, 2, 2)), Choose(2, Kind.FIT, 0, 1, AB)]


def test_the_evaluation_closes_with_what_came():
    story = Story().to(Moment.EVALUATE)
    why = failed("evaluate", 0).failure
    story.say(failed("evaluate", 0), Joined("c"))
    gone = Failure(FailureKind.LEFT, "the client went away")
    assert story.say(Left("b", "killed"))[-1] == Summarize(
        1, (), ((task("evaluate", 0), why), (task("evaluate", 1), gone))
    )


def test_the_deadline_closes_the_evaluation():
    story = Story(pace=Pace(quorum=0, retries=0, deadline=10)).to(Moment.EVALUATE)
    assert isinstance(story.say(Ticked(), at=10.0)[-1], Summarize)


# ---- what can come at any time


QUESTIONS = {
    Moment.INIT: Initialize,
    Moment.CHOOSING: Choose,
    Moment.STEPPING: Step,
    Moment.TESTING: Evaluate,
    Moment.SUMMARIZING: Summarize,
}
ONGOING = [phase for phase in Moment if phase is not Moment.NEW]


@pytest.mark.parametrize("phase", ONGOING)
def test_a_late_answer_gets_an_answer_in_every_phase(phase):
    story = Story().to(phase)
    answers = [
        *story.say(Replied("run.0.fit.7.0", Reply(content="old"))),
        *story.say(Failed("run.0.fit.7.0", Failure(FailureKind.RAISED, "no"))),
    ]
    stale = Settle("run.0.fit.7.0", Verdict.STALE, "the round closed before this reply came")
    assert answers == [Discard("old"), stale, Settle("run.0.fit.7.0", Verdict.STALE, "no")]
    assert story.moment is phase


@pytest.mark.parametrize("phase", [*QUESTIONS, Moment.DONE])
def test_while_a_question_is_open_clients_come_and_go_and_nothing_else_happens(phase):
    story = Story().to(phase)
    n = len(story.state.pool)
    assert story.say(Joined("z")) == [Publish(notices.ClientJoined(0.0, "z", n + 1))]
    assert story.say(Ticked()) == []
    assert story.say(Left("z", "bye")) == [Publish(notices.ClientLeft(0.0, "z", n, "bye"))]
    assert story.moment is phase


@pytest.mark.parametrize("phase", ONGOING)
def test_a_resumed_run_says_where_it_is_and_may_have_become_longer(phase):
    story = Story(rounds=2).to(phase if phase is not Moment.DONE else Moment.SUMMARIZING)
    if phase is Moment.DONE:
        story.say(Stopped("enough"))
    number = story.state.round
    assert story.say(Resumed(5)) == [Publish(notices.RunResumed(0.0, 5, number))]
    assert story.say(Resumed(3)) == [Publish(notices.RunResumed(0.0, 5, number))]
    assert story.moment is phase


@pytest.mark.parametrize("phase", [phase for phase in ONGOING if phase is not Moment.DONE])
def test_a_stopped_run_recalls_what_is_asked_and_is_over(phase):
    story = Story().to(phase)
    recalled = [Cancel(asked, "Ctrl-C") for asked in story.coordinator.pending]
    rounds = story.state.completed
    assert story.say(Stopped("Ctrl-C")) == [*recalled, Publish(notices.RunFinished(0.0, rounds, "Ctrl-C", "", True))]
    assert story.coordinator.done
    assert story.coordinator.wake_at is None
    assert story.say(Stopped("again")) == []


def test_a_run_of_no_rounds_is_over_after_the_first_evaluation():
    story = Story(rounds=0).to(Moment.INIT)
    story.say(Initialized(True))
    assert story.say(Evaluated()) == [Publish(notices.RunFinished(0.0, 0, "all rounds done"))]


# ---- what is owed


@pytest.mark.parametrize("phase", list(QUESTIONS))
def test_an_open_question_is_owed_to_the_next_process(phase):
    (owed,) = Story().to(phase).coordinator.owed()
    assert type(owed) is QUESTIONS[phase]


@pytest.mark.parametrize("phase", [Moment.FIT, Moment.EVALUATE])
def test_every_answer_still_wanted_is_owed_to_the_next_process(phase):
    story = Story().to(phase)
    story.say(reply(phase.split()[1], 0))
    assert story.coordinator.owed() == [Dispatch(task(phase.split()[1], 1))]


def test_parameters_still_wanted_are_owed_to_the_next_process():
    story = seeding()
    assert story.coordinator.owed() == []
    story.say(Joined("a"), Joined("b"))
    assert story.coordinator.owed() == [Dispatch(SEED)]


@pytest.mark.parametrize("phase", [Moment.NEW, Moment.WAITING])
def test_nothing_is_owed_while_nothing_is_asked(phase):
    story = Story() if phase is Moment.NEW else Story().to(phase)
    assert story.coordinator.owed() == []


def test_how_the_run_has_ended_is_owed_to_the_next_process():
    (owed,) = Story().to(Moment.DONE).coordinator.owed()
    assert owed == Publish(notices.RunFinished(0.0, 1, "all rounds done"))


@pytest.mark.parametrize("phase", ONGOING)
def test_a_state_survives_being_written_in_every_phase(phase):
    state = Story().to(phase).state
    assert decode_state(encode(state)) == state


def test_a_long_list_of_names_is_cut():
    story = Story()
    story.say(Started(), Initialized(True), Evaluated(), *(Joined(f"c{i:02}") for i in range(12)))
    story.say(Chosen(tuple(Member(f"c{i:02}") for i in range(12))))
    assert story.coordinator.waiting_for.endswith("c09 and 2 more")


# ---- a population, and a worker's report of several tasks


def test_a_million_clients_are_there_at_once_and_nobody_is_named():
    story = Story(min_available=1_000_000)
    story.say(Started(), Initialized(True), Evaluated())
    joined, choose = story.say(Populated(1_000_000))
    assert joined == Publish(notices.PopulationJoined(0.0, 1_000_000, 1_000_000))
    assert choose == Choose(1, Kind.FIT, 0, 0, Clients(1_000_000))
    assert len(encode(story.state)) < 1000


def test_a_population_can_have_names_and_comes_only_once():
    story = Story()
    story.say(Started(), Initialized(True), Evaluated())
    assert story.say(Populated(names=("b", "a"))) == [
        Publish(notices.PopulationJoined(0.0, 2, 2)),
        Choose(1, Kind.FIT, 0, 0, AB),
    ]
    assert story.say(Populated(names=("b", "a"))) == []


def test_without_parameters_the_first_of_a_population_is_asked():
    story = Story()
    story.say(Started(), Initialized(False))
    assert [command.task.client for command in story.say(Populated(5)) if isinstance(command, Dispatch)] == ["0"]


def test_a_report_brings_the_first_parameters():
    story = Story()
    story.say(Started(), Populated(2), Initialized(False))
    _, step = story.say(Reported((("run.0.parameters.1.0", Reply(content="seed")),)))
    assert isinstance(step, Step)
    assert story.moment is Moment.STEPPING


def report(kind: str = "fit", *indices: int, content: str | None = None) -> Reported:
    return Reported(tuple((task(kind, index).id, Reply(10 + index, 0.5, {}, content, "sum")) for index in indices))


def test_a_report_answers_several_tasks_and_closes_the_exchange():
    story = Story().to(Moment.FIT)
    commands = story.say(report("fit", 0, 1))
    assert commands[:2] == [Publish(notices.TaskSucceeded(0.0, 1, Kind.FIT, name, 10 + i)) for i, name in enumerate("ab")]
    assert isinstance(commands[2], Step)
    assert [(asked.index, answer.partial) for asked, answer in commands[2].results] == [(0, "sum"), (1, "sum")]


def test_a_report_on_part_of_the_cohort_leaves_the_rest_wanted():
    story = Story().to(Moment.FIT)
    story.say(report("fit", 1))
    assert [asked.index for asked in story.coordinator.pending] == [0]


def test_of_a_report_all_counts_or_nothing():
    story = Story().to(Moment.FIT)
    story.say(reply("fit", 0))
    assert story.say(report("fit", 0, 1, content="late")) == [Discard("late"), Discard("late")]
    assert [asked.index for asked in story.coordinator.pending] == [1]


def test_a_report_on_a_closed_exchange_is_thrown_away():
    story = Story().to(Moment.STEPPING)
    assert story.say(report("fit", 0, 1, content="late")) == [Discard("late"), Discard("late")]
    assert story.say(report("fit", 0, content=f"content {task().id}")) == []  # it is what counts already


@pytest.mark.parametrize("phase", list(Moment)[1:])
def test_populations_and_reports_may_come_at_any_time(phase):
    story = Story().to(phase)
    story.say(Reported((("stranger", Reply()),)))
    story.say(Populated(2))
    assert len(story.state.pool) >= 2


# ---- what is lost


def second_round() -> Story:
    """Both clients train in round 2 of 3, whose model is version 1."""
    story = Story(rounds=3).to(Moment.SUMMARIZING)
    story.say(Summarized(0.5), Chosen((Member("a"), Member("b"))))
    assert (story.moment, story.state.round, story.state.version) == (Moment.FIT, 2, 1)
    return story


@pytest.mark.parametrize("phase", ONGOING)
def test_losing_what_nobody_needs_changes_nothing(phase):
    story = Story().to(phase)
    before, owed = decode_state(encode(story.state)), story.coordinator.owed()
    assert story.say(Lost(("unknown",), (99,))) == []
    assert replace_losses(story.state) == before
    assert story.coordinator.owed() == owed


def replace_losses(state: State) -> State:
    return dataclasses.replace(state, losses=0)


def test_a_lost_version_takes_the_run_back_to_the_one_before_and_its_round_is_done_again():
    story = second_round()
    story.say(reply(number=2))
    commands = story.say(Lost(("content run.2.fit.0.0",), (1,)))
    assert commands == [
        Cancel(task(number=2, index=1), "its round is done again"),
        Discard("content run.2.fit.0.0"),
        Publish(notices.RunRewound(0.0, 1, 0)),
        Publish(notices.RoundStarted(0.0, 1, 3)),
    ]
    assert story.coordinator.owed() == [Choose(1, Kind.FIT, 0, 0, AB)]
    assert (story.state.version, story.state.completed, story.state.spare) == (0, 0, frozenset())
    assert [c.task for c in story.say(Chosen((Member("a"),))) if isinstance(c, Dispatch)] == [
        task(id="run.1.fit.0r1.0", cohort=1, config={})  # drawn as before, under a name of its own
    ]


def test_the_best_version_and_what_ends_the_run_go_back_too():
    story = Story(rounds=5, pace=Pace(quorum=0, retries=0, until=Until(metric="loss", patience=3), keep_best="loss"))
    story.to(Moment.SUMMARIZING)
    story.say(Summarized(0.5), Chosen((Member("a"), Member("b"))), reply(number=2), reply(number=2, index=1), Stepped(2))
    story.say(Evaluated(), Chosen((Member("a"), Member("b"))), reply("evaluate", number=2), reply("evaluate", 1, number=2))
    story.say(Summarized(0.25))
    assert (story.state.standing.best_version, story.state.standing.progress, story.state.completed) == (2, 0.25, 2)
    story.say(Lost((), (2,)))
    assert (story.state.standing.best, story.state.standing.best_version, story.state.standing.progress) == (0.5, 1, 0.5)
    assert (story.state.round, story.state.version, story.state.standing.progress_round) == (2, 1, 1)


def test_a_best_version_that_is_lost_is_forgotten_and_the_run_goes_on():
    story = Story(rounds=5, pace=Pace(quorum=0, retries=0, keep_best="loss")).to(Moment.SUMMARIZING)
    story.say(Summarized(0.25), Chosen((Member("a"), Member("b"))), reply(number=2), reply(number=2, index=1), Stepped(2))
    assert story.state.versions == {1, 2}
    assert story.say(Lost((), (1,))) == []
    assert (story.state.standing.best, story.state.standing.best_version, story.state.version) == (None, None, 2)


@pytest.mark.parametrize("answers", [1, 2])
def test_a_lost_answer_is_asked_for_again_under_another_name(answers):
    """Also where all had answered, and the step was about to be made."""
    story = second_round()
    story.say(*(reply(number=2, index=index) for index in range(answers)))
    assert story.say(Lost(("content run.2.fit.0.0",))) == []
    again = task(number=2, id="run.2.fit.0.0r1", config={})
    others = [task(number=2, index=1)][answers - 1 :]
    assert story.coordinator.owed() == [Dispatch(again), *map(Dispatch, others)]
    story.say(*(reply(number=2, index=index) for index in range(answers, 2)))
    step = story.say(Replied(again.id, Reply(3, content="anew")))[-1]
    assert isinstance(step, Step)
    assert [reply.content for _, reply in step.results] == ["anew", "content run.2.fit.0.1"]


def test_parameters_of_a_client_that_are_lost_are_asked_for_again():
    story = seeding()
    story.say(Joined("a"), Joined("b"), seed_reply())
    assert story.moment is Moment.STEPPING
    assert story.say(Lost(("seed 1",))) == []
    assert story.coordinator.owed() == [Dispatch(replace(SEED, id=f"{SEED.id}r1"))]
    step = story.say(Replied(f"{SEED.id}r1", Reply(content="seed")))[-1]
    assert isinstance(step, Step)


def test_parameters_that_are_lost_while_their_client_is_away_are_asked_of_the_next():
    story = seeding(min_available=1)
    story.say(Joined("a"), seed_reply(), Left("a"), Joined("b"))
    commands = story.say(Lost(("seed 1",)))
    assert [type(command) for command in commands] == [Cancel, Publish, Publish]  # what is sent is owed
    assert [command.task.client for command in story.coordinator.owed()] == ["b"]


def test_a_task_whose_own_parameters_are_lost_has_failed():
    story = Story().to(Moment.CHOOSING)
    story.say(Chosen((Member("a", {}, "own"), Member("b"))))
    gone = task(config={}, content="own")
    why = "the parameters that were made for it are lost"
    assert story.say(Lost(("own",))) == [Cancel(gone, why), failure_event(gone, "lost", why)]
    assert story.coordinator.owed() == [Dispatch(task(index=1))]
    assert isinstance(story.say(reply(index=1))[-1], Step)


def test_where_nothing_is_left_to_wait_for_the_round_closes():
    story = Story().to(Moment.CHOOSING)
    story.say(Chosen((Member("a", {}, "own"), Member("b"))), reply(index=1))
    assert [type(command) for command in story.say(Lost(("own",)))] == [Cancel, Publish]
    assert story.moment is Moment.STEPPING
    assert [type(command) for command in story.coordinator.owed()] == [Step]


# ---- a round of several exchanges

KEYS = Exchange("keys", Kind.PROPERTIES)
UNMASK = Exchange("unmask", Kind.EVALUATE, To.SURVIVORS)
SECRET = (KEYS, replace(FIT, to=To.SURVIVORS), UNMASK, EVALUATE)


def secret(*, pace: Pace = CLASSIC, exchanges: tuple[Exchange, ...] = SECRET, rounds: int = 1) -> Story:
    """A run whose clients a, b and c are there, and whose first round asks for keys."""
    story = Story(rounds=rounds)
    rules = Rules(run="run", min_available=2, pace=pace, exchanges=exchanges)
    story.coordinator = Coordinator(rules, State(num_rounds=rounds))
    story.say(Started(), Initialized(True), Populated(names=("a", "b", "c")), Evaluated())
    return story


def three(name: str, *clients: str) -> Chosen:
    return Chosen(tuple(Member(client, {"for": name}) for client in clients))


def said(story: Story, name: str, *indices: int, attempt: int = 0) -> list[Command]:
    content = "update" if name == "fit" else None
    answers = [(f"run.1.{name}.{attempt}.{i}", content and f"{content} {i}") for i in indices]
    return story.say(*(Replied(task_id, Reply(1, 0.5, {"said": name}, made)) for task_id, made in answers))


def clients_of(results: tuple[tuple[Task, object], ...]) -> list[str]:
    return [asked.client for asked, _ in results]


def test_the_exchanges_of_a_round_follow_each_other_and_the_step_has_what_all_were_answered():
    story = secret()
    assert story.coordinator.owed() == [Choose(1, Kind.PROPERTIES, 0, 0, Clients(0, ["a", "b", "c"]), exchange="keys")]
    chosen, *sent = story.say(three("keys", "c", "a", "b"), at=1.0)
    assert chosen == Publish(notices.CohortChosen(1.0, 1, "keys", 0, ("c", "a", "b"), 3))
    assert [(c.task.id, c.task.kind, c.task.name, c.task.version) for c in sent] == [
        (f"run.1.keys.0.{i}", Kind.PROPERTIES, "keys", None) for i in range(3)
    ]
    assert story.coordinator.waiting_for == "keys of round 1 from c, a, b"
    said(story, "keys", 0, 1)
    why = Failure(FailureKind.RAISED, "no")
    *_, closed, choose = story.say(Failed("run.1.keys.0.2", why), at=3.0)
    assert closed == Publish(notices.ExchangeClosed(3.0, 1, "keys", 2, 1, 2.0))
    assert (choose.name, choose.available) == ("fit", Clients(0, ["a", "c"]))  # b has not survived
    assert [(each.exchange, clients_of(each.results), clients_of(each.failures)) for each in choose.closed] == [
        ("keys", ["c", "a"], ["b"])
    ]

    story.say(three("fit", "a", "c"), at=4.0)
    assert said(story, "fit", 0, 1)[-1].name == "unmask"
    assert story.state.contents == {"update 0", "update 1"}
    story.say(three("unmask", "a", "c"), at=5.0)
    *_, closed, step = said(story, "unmask", 0, 1)
    assert closed.event.kind == "unmask"
    assert [reply.content for _, reply in step.results] == ["update 0", "update 1"]
    assert [each.exchange for each in step.closed] == ["keys", "unmask"]
    assert [clients_of(each.results) for each in step.closed] == [["c", "a"], ["a", "c"]]
    assert story.coordinator.owed() == [step]
    closed, evaluate = story.say(Stepped(1, {"loss": 1.0}), at=7.0)
    assert closed == Publish(notices.ExchangeClosed(7.0, 1, "fit", 2, 0, 3.0, None, {"loss": 1.0}))
    assert evaluate == Evaluate(1, 1)
    assert (story.state.closed, story.state.contents) == ([], frozenset())


def test_an_exchange_may_be_to_all_who_were_asked_and_are_there():
    story = secret(exchanges=(KEYS, replace(FIT, to=To.ASKED), EVALUATE))
    story.say(three("keys", "a", "b", "c"), Left("c"), Failed("run.1.keys.0.1", Failure(FailureKind.RAISED, "no")))
    assert said(story, "keys", 0)[-1].available == Clients(0, ["a", "b"])


def test_a_strategy_may_skip_an_exchange():
    story = secret()
    assert story.say(Chosen())[-1].name == "fit"  # nobody has keys
    assert story.say(Chosen()) == [Evaluate(1, 0)]  # and so nobody trains


def test_a_strategy_that_wants_more_survivors_than_there_are_gets_none():
    story = secret()
    story.say(three("keys", "a", "b"))
    said(story, "keys", 0, 1)
    assert story.say(Chosen(needs=9)) == [Evaluate(1, 0)]


def test_without_enough_answers_the_round_begins_again_with_its_first_exchange():
    story = secret(exchanges=(*SECRET[:2], replace(UNMASK, pace=Pace(quorum=2, retries=1)), EVALUATE))
    for name in ("keys", "fit"):
        story.say(three(name, "a", "b"))
        said(story, name, 0, 1)
    story.say(three("unmask", "a", "b"))
    said(story, "unmask", 0)
    commands = story.say(Failed("run.1.unmask.0.1", Failure(FailureKind.RAISED, "no")))
    assert [c for c in commands if isinstance(c, Discard)] == [Discard("update 0"), Discard("update 1")]
    assert (story.state.phase, story.state.exchange, story.state.attempt) == (Phase.WAITING, "keys", 1)
    assert story.say(Ticked(), at=1.0)[-1].name == "keys"
    for name in ("keys", "fit"):
        story.say(three(name, "a", "b"))
        said(story, name, 0, 1, attempt=1)
    story.say(three("unmask", "a", "b"), *(Failed(f"run.1.unmask.1.{i}", Failure(FailureKind.RAISED, "no")) for i in (0, 1)))
    (ended,) = story.coordinator.owed()
    assert (ended.event.error, ended.event.why) == ("QuorumNotMet", "round 1 got 0 of 2 answers in 2 attempts")


def test_an_update_that_is_lost_in_a_later_exchange_begins_the_round_again():
    story = secret()
    for name in ("keys", "fit"):
        story.say(three(name, "a", "b"))
        said(story, name, 0, 1)
    assert story.say(Lost(("update 1",))) == [Discard("update 0"), Discard("update 1")]
    assert (story.state.phase, story.state.exchange, story.state.attempt) == (Phase.WAITING, "keys", 1)


def test_a_version_that_is_lost_in_a_later_exchange_takes_the_round_with_it():
    story = secret(rounds=2)
    for name in ("keys", "fit", "unmask"):
        story.say(three(name, "a", "b"))
        said(story, name, 0, 1)
    story.say(Stepped(1), Evaluated(), Chosen(), three("keys", "a"))
    assert (story.state.round, story.state.version) == (2, 1)
    story.say(Lost((), (1,)))
    assert (story.state.round, story.state.version, story.state.closed) == (1, 0, [])
    assert story.coordinator.owed()[-1].name == "keys"


def test_an_exchange_of_no_kind_is_refused():
    with pytest.raises(TypeError, match=r"Exchange\('keys'\) was given 'properties'; it is one of Kind.PROPERTIES, "):
        Exchange("keys", "properties")
    for name in ("", "a.b", 3):
        with pytest.raises(ValueError, match="an exchange has a word for a name"):
            Exchange(name, Kind.EVALUATE)
    with pytest.raises(TypeError, match=r"pace=5; it is a Pace, such as Pace\(deadline=60\)"):
        Exchange("keys", Kind.PROPERTIES, pace=5)


@pytest.mark.parametrize(
    ("exchanges", "why"),
    [
        ((FIT,), "then the evaluation"),
        ((KEYS, EVALUATE), "of which one is FIT"),
        ((FIT, FIT, EVALUATE), "told apart by names"),
        ((Exchange("parameters", Kind.EVALUATE), FIT, EVALUATE), "told apart by names"),
        ((replace(KEYS, contributes=FIT.contributes), FIT, EVALUATE), "'keys' answers"),
        ((replace(FIT, to=To.SURVIVORS), EVALUATE), "nobody was asked before"),
        ((Exchange("first", Kind.PARAMETERS), FIT, EVALUATE), "'first' cannot do it"),
        ((replace(FIT, pace=Pace(goal=1, carry_over=True)), KEYS, EVALUATE), "last exchange before a step"),
    ],
)
def test_a_list_that_is_no_round_is_refused(exchanges, why):
    with pytest.raises(ValueError, match=why):
        Rules(run="run", min_available=1, pace=CLASSIC, exchanges=exchanges)


# ---- the table


EXAMPLES: dict[type[Input], Input] = {
    Started: Started(),
    Resumed: Resumed(1),
    Joined: Joined("a"),
    Populated: Populated(2),
    Left: Left("a"),
    Initialized: Initialized(True),
    Chosen: Chosen(),
    Replied: Replied("x", Reply()),
    Reported: Reported((("x", Reply()),)),
    Failed: Failed("x", Failure(FailureKind.RAISED, "x")),
    Ticked: Ticked(),
    Stepped: Stepped(1),
    Evaluated: Evaluated(),
    Summarized: Summarized(),
    Stopped: Stopped("x"),
    Lost: Lost(),
}
IMPOSSIBLE = [
    (moment, kind)
    for moment in Moment
    for kind in EXAMPLES
    if kind not in TRANSITIONS[Phase(moment.split()[0])] or ANSWERS.get(kind, moment.question) is not moment.question
]


@pytest.mark.parametrize(("phase", "kind"), IMPOSSIBLE, ids=lambda value: getattr(value, "__name__", str(value)))
def test_an_input_that_is_not_in_the_table_cannot_happen(phase, kind):
    story = Story() if phase is Moment.NEW else Story().to(phase)
    with pytest.raises(RuntimeError, match=f"{kind.__name__} cannot happen in phase {story.state.phase}"):
        story.coordinator.handle(EXAMPLES[kind], 0.0)


def test_the_table_has_a_row_for_every_phase():
    assert set(TRANSITIONS) == set(Phase)


def test_every_row_of_the_table_was_exercised(request):
    """Runs last. Selecting single tests by hand leaves rows out, so then it has nothing to say."""
    mine = [item for item in request.session.items if item.fspath == request.node.fspath]
    if {item.originalname for item in mine} < {name for name in globals() if name.startswith("test_")}:
        pytest.skip("not all tests of this file were selected")
    assert {(phase, kind) for phase, row in TRANSITIONS.items() for kind in row} - EXERCISED == set()
