"""What clients are owed, and what a poll brings of it: scripts of calls, without a listener and without a clock."""

from __future__ import annotations

import pytest

from umbel.door import Door
from umbel.rounds.messages import Kind, Task
from umbel.runtime.transports.http.owed import TOLD, Debts

DOOR = Door(Kind.FIT, None, 10**9, 10**9)


def task(number, client="a"):
    return Task(f"run.{number}.fit.0.0", number, Kind.FIT, 0, 1, client, None, {})


def names(owed):
    return [one.task.id for one in owed]


@pytest.fixture
def debts():
    return Debts()


def test_a_poll_brings_the_difference_between_what_is_owed_and_what_the_client_has(debts):
    first, second = task(1), task(2)
    debts.owe(first, {}, DOOR)
    debts.owe(second, {}, DOOR)
    assert names(debts.news("a", [], before=0.0).tasks) == [first.id, second.id]
    assert names(debts.news("a", [first.id], before=0.0).tasks) == [second.id]
    assert not debts.news("a", [first.id, second.id], before=0.0)
    assert not debts.news("b", [], before=0.0)


def test_a_lost_answer_loses_nothing_the_next_poll_brings_it_again(debts):
    debts.owe(task(1), {}, DOOR)
    for _ in range(3):
        news = debts.news("a", [], before=0.0)
        assert debts.tell(news)
        assert names(news.tasks) == [task(1).id]


def test_a_task_that_is_taken_back_is_told_to_whoever_has_it_and_one_that_is_decided_is_not(debts):
    back, decided = task(1), task(2)
    for one in (back, decided):
        debts.owe(one, {}, DOOR)
    assert debts.take_back(back.id)
    debts.decide(decided.id)
    news = debts.news("a", [back.id, decided.id], before=0.0)
    assert news == ([], [back.id])
    assert debts.tell(news)
    assert "a" not in debts


def test_to_take_back_what_nobody_is_owed_is_no_news(debts):
    assert not debts.take_back(task(1).id)


def test_a_task_that_no_server_of_this_run_knows_is_taken_back_and_not_worth_a_hurry(debts):
    news = debts.news("a", ["made-up"], before=0.0)
    assert news.cancelled == ["made-up"]
    assert not debts.tell(news)


def test_whoever_asks_for_the_same_task_again_and_again_is_no_longer_in_a_hurry(debts):
    debts.owe(task(1), {}, DOOR)
    worth_it = [debts.tell(debts.news("a", [], before=0.0)) for _ in range(TOLD + 2)]
    assert worth_it == [True] * TOLD + [False] * 2
    debts.owe(task(2), {}, DOOR)
    assert debts.tell(debts.news("a", [], before=0.0))


def test_a_resumed_run_takes_back_no_task_that_it_is_about_to_owe_again():
    debts = Debts(pending=[task(1).id])
    assert debts.is_pending(task(1).id)
    assert not debts.news("a", [task(1).id], before=0.0)
    debts.owe(task(1), {}, DOOR)
    assert not debts.is_pending(task(1).id)
    debts.take_back(task(1).id)
    assert debts.news("a", [task(1).id], before=0.0).cancelled == [task(1).id]


def test_a_poll_does_not_bring_what_the_answer_to_a_reply_is_about_to_bring(debts):
    debts.owe(task(1), {}, DOOR)
    assert not debts.news("a", [], before=0.0, follows=True)
    (owed,) = debts.new("a", [], before=5.0)
    owed.told_at = 4.0  # that answer has brought it
    assert not debts.news("a", [], before=3.0), "a poll from before needs not bring it"
    assert names(debts.news("a", [], before=5.0).tasks) == [task(1).id], "a later one does: the answer was lost"


def test_what_is_with_the_run_s_loop_is_not_brought_again_and_not_taken_back(debts):
    debts.owe(task(1), {}, DOOR)
    debts.to("a")[task(1).id].submitted = True
    assert not debts.news("a", [], before=0.0)
    assert not debts.news("a", [task(1).id], before=0.0)


def test_whether_a_task_is_owed_still_is_a_question_of_this_very_debt(debts):
    debts.owe(task(1), {}, DOOR)
    owed = debts.to("a")[task(1).id]
    assert debts.is_owed(owed)
    debts.take_back(task(1).id)
    debts.owe(task(1), {}, DOOR)  # the same name, anew
    assert not debts.is_owed(owed)
