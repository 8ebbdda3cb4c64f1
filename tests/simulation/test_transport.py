"""The transport with a crew that is a script: in which order pieces go out, sums merge, and what is tried again."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections import deque

import numpy as np
import pytest

from umbel.aggregators import mean
from umbel.door import Door
from umbel.fold import PartialSum, plan
from umbel.optimizers import sgd
from umbel.params import schema_of
from umbel.rounds.messages import Failed, Failure, FailureKind, Kind, Populated, Reply, Reported, Stopped, Task
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.transports.simulated.channel import Channel, Closed
from umbel.runtime.transports.simulated.pieces import Done, Lost
from umbel.runtime.transports.simulated.shared import SharedContents, anonymous_file, load_shared, write_all
from umbel.runtime.transports.simulated.states import States
from umbel.runtime.transports.simulated.transport import SimulatedTransport
from umbel.runtime.transports.simulated.worker_process import dump

SCHEMA = schema_of([np.zeros(3, "float32")])
DOOR = Door(Kind.FIT, SCHEMA, 10**9, 2**40)


class Script:
    """A crew whose outcomes are whatever a test puts there."""

    here = False

    def __init__(self, slots=2):
        self.slots = slots
        self.pieces = []
        self.dropped = []
        self.outcomes = deque()
        self.busy = 0

    def free(self):
        return self.busy < 2 * self.slots

    def start(self, piece):
        self.busy += 1
        self.pieces.append(piece)

    def wait(self, timeout):
        if not self.outcomes:
            return None
        self.busy -= 1
        return self.outcomes.popleft()

    def wake(self):
        pass

    def drop(self, number):
        self.dropped.append(number)

    def close(self):
        pass

    def done(self, piece, value=None):
        chunks = {asked.index // piece.chunk for asked in piece.tasks} if piece.partial else ()
        totals = {chunk: PartialSum(mean(), plan(SCHEMA)) for chunk in chunks}
        for asked in piece.tasks if totals else ():
            totals[asked.index // piece.chunk].add([np.full(3, value_of(asked.index, value), "float32")], 1)
        replies = {asked.index: Reply(1, 0.0, {}, asked.into, piece.partial) for asked in piece.tasks}
        self.outcomes.append(Done(piece.number, replies, {}, totals))


def value_of(index, value):
    return index if value is None else value[index] if isinstance(value, np.ndarray) else value


def begin(cohort, *, slots=2, singly=False, folds=True, kind=Kind.FIT, batch=1):
    crew = Script(slots)
    transport = SimulatedTransport(
        Populated(cohort), crew, MemoryContents(), states=States(), folds=folds, singly=singly, batch=batch
    )
    tasks = [Task(f"run.1.{kind}.0.{i}", 1, kind, i, cohort, str(i), 0, {}) for i in range(cohort)]
    for task in tasks:
        transport.dispatch(task, {"model": "model-000000"}, DOOR)
    return crew, transport, tasks


def everything(transport):
    events = []
    while (event := transport.receive(0.0)) is not None:
        events.append(event)
    return events


def test_a_piece_is_a_chunk_of_consecutive_tasks():
    crew, transport, _ = begin(130, slots=100)  # chunks of ⌈130 / 64⌉ = 3
    everything(transport)
    assert [[asked.index for asked in piece.tasks] for piece in crew.pieces[:2]] == [[0, 1, 2], [3, 4, 5]]
    assert sum(len(piece.tasks) for piece in crew.pieces) == 130
    assert {piece.partial for piece in crew.pieces} == {"run.1.fit.0"}


def test_a_pace_that_may_close_early_sends_every_task_by_itself():
    crew, transport, _ = begin(130, slots=100, singly=True, folds=False)
    everything(transport)
    assert {len(piece.tasks) for piece in crew.pieces} == {1}
    assert {piece.partial for piece in crew.pieces} == {None}
    assert {asked.into for asked in crew.pieces[7].tasks} == {"run.1.fit.0.7-update"}


def test_a_piece_may_hold_several_chunks_and_whole_ones():
    crew, transport, _ = begin(130, slots=100, batch=8)
    everything(transport)
    assert [[asked.index for asked in piece.tasks] for piece in crew.pieces[:2]] == [[*range(9)], [*range(9, 18)]]
    crew, transport, _ = begin(130, slots=100, batch=8, singly=True, folds=False)
    everything(transport)
    assert {len(piece.tasks) for piece in crew.pieces} == {1}


@pytest.mark.parametrize("order", [range(4), [3, 1, 0, 2]])
def test_chunks_are_merged_in_the_same_order_however_many_a_piece_holds(order):
    values = np.random.default_rng(0).normal(size=130).astype("float32") * 1e6

    def summed(batch):
        crew, transport, _ = begin(130, slots=200, batch=batch)
        everything(transport)
        pieces = crew.pieces[:]
        for piece in [pieces[i] for i in order if i < len(pieces)] + pieces[len(order) :]:
            crew.done(piece, values)
        everything(transport)
        return b"".join(transport.sums.take("run.1.fit.0").blocks(None, sgd()))

    assert summed(40) == summed(1) == summed(1000)


def test_a_lost_piece_of_several_chunks_whose_tasks_all_fail_stops_no_sum():
    crew, transport, tasks = begin(4, slots=4, batch=2)
    everything(transport)
    _, second = crew.pieces
    crew.done(second)
    for _ in range(2):
        crew.outcomes.append(Lost(crew.pieces[-1 if len(crew.pieces) > 2 else 0].number, None, "gone"))
        events = everything(transport)
    assert [event.task for event in events] == [tasks[0].id, tasks[1].id]
    assert transport.sums.take("run.1.fit.0").updates == 2


def test_sums_that_come_in_any_order_are_merged_in_chunk_order():
    crew, transport, _ = begin(4, slots=4)
    everything(transport)
    values = [1e8, 1.0, -1e8, 1.0]  # in float32's sums the order would show; here the merges are counted
    merged = []
    put = transport.sums.put
    transport.sums.put = lambda chunk, part: (put(chunk, part), merged.append((chunk, transport.sums.next)))
    for i in (2, 3, 1, 0):
        crew.done(crew.pieces[i], values[i])
    events = everything(transport)
    assert merged == [(2, 0), (3, 0), (1, 0), (0, 4)]
    assert [event.replies[0][0][-1] for event in events if isinstance(event, Reported)] == ["2", "3", "1", "0"]
    total = transport.sums.take("run.1.fit.0")
    assert np.frombuffer(next(total.blocks(None, sgd())), "float32").tolist() == [0.5] * 3


def test_a_chunk_that_lags_stops_the_others_before_memory_is_full(monkeypatch):
    monkeypatch.setattr("umbel.runtime.transports.simulated.transport.WAITING_SUMS", 0)
    crew, transport, _ = begin(64, slots=2)
    everything(transport)
    for _ in range(100):  # everything but the first chunk is done as soon as it is out
        for piece in crew.pieces[1:]:
            if piece.number not in {outcome.number for outcome in crew.outcomes}:
                crew.done(piece)
        crew.pieces = crew.pieces[:1]
        everything(transport)
    assert transport.sums.next == 0
    assert len(transport.sums._waiting) == 2  # slots + 1, less the first
    crew.done(crew.pieces[0])
    everything(transport)
    assert transport.sums.next == 3


def test_a_lost_piece_is_tried_again_and_then_only_the_guilty_fails():
    crew, transport, tasks = begin(130, slots=1)
    everything(transport)
    for _ in range(2):
        lost = next(piece for piece in reversed(crew.pieces) if piece.tasks[0].index == 0)
        crew.outcomes.append(Lost(lost.number, 1, "worker 0 died at client 1"))
        events = everything(transport)
    died = Failure(FailureKind.DIED, "worker 0 died at client 1, and so did the one that tried again")
    assert events == [Failed(tasks[1].id, died)]
    again = [piece for piece in crew.pieces if piece.tasks[0].index == 0]
    assert [[asked.index for asked in piece.tasks] for piece in again] == [[0, 1, 2], [0, 1, 2], [0, 2]]
    assert len({piece.number for piece in again}) == 3


def test_a_crew_that_does_not_see_the_guilty_is_asked_to_look_and_the_first_death_counts_for_the_one_it_finds():
    crew, transport, tasks = begin(130, slots=1)
    everything(transport)
    found = [None, 1, 2, 2]  # two guilty, of which the first is seen at the second try only
    failed = []
    for at in found:
        lost = next(piece for piece in reversed(crew.pieces) if piece.tasks[0].index == 0)
        crew.outcomes.append(Lost(lost.number, at, "gone"))
        failed.append([event.task for event in everything(transport)])
    assert failed == [[], [tasks[1].id], [], [tasks[2].id]]
    again = [piece for piece in crew.pieces if piece.tasks[0].index == 0]
    assert [piece.careful for piece in again] == [False, True, True, True, True]
    assert [asked.index for asked in again[-1].tasks] == [0]


def test_a_piece_that_dies_nobody_knows_where_fails_as_a_whole():
    crew, transport, tasks = begin(2, slots=1)
    everything(transport)
    for _ in range(2):
        crew.outcomes.append(Lost(crew.pieces[-1 if crew.pieces[-1].tasks[0].index == 0 else 0].number, None, "gone"))
        events = everything(transport)
    assert [event.task for event in events] == [tasks[0].id]


def test_a_late_outcome_of_a_recalled_piece_is_nothing():
    crew, transport, tasks = begin(3, singly=True, folds=False)
    everything(transport)
    transport.cancel(tasks[0])
    assert crew.dropped == [crew.pieces[0].number]
    crew.done(crew.pieces[0])
    crew.done(crew.pieces[1])
    assert [event.replies[0][0] for event in everything(transport)] == [tasks[1].id]


def test_own_parameters_of_a_client_are_a_piece_of_their_own_and_nothing_is_folded():
    crew, transport, _ = begin(0)
    for i, content in enumerate(["model", "model", "own", "model"]):
        transport.dispatch(Task(f"run.1.fit.0.{i}", 1, Kind.FIT, i, 256, str(i), 0, {}), {"model": content}, DOOR)
    everything(transport)
    assert [(piece.given["model"], len(piece.tasks), piece.partial) for piece in crew.pieces] == [
        ("model", 2, None),
        ("own", 1, None),
        ("model", 1, None),
    ]


def test_a_sum_that_is_not_complete_is_not_given():
    _, transport, _ = begin(4)
    everything(transport)
    with pytest.raises(RuntimeError, match="is not complete"):
        transport.sums.take("run.1.fit.0")


def test_ctrl_c_in_a_clients_code_stops_the_run():
    crew, transport, _ = begin(2)

    def interrupted(timeout):
        raise KeyboardInterrupt

    crew.wait = interrupted
    assert transport.receive(None) == Stopped("stopped by Ctrl-C")


# ---- what passes between processes


def test_a_channel_carries_messages_and_many_open_files():
    left, right = (Channel(end) for end in socket.socketpair())
    files = []
    for i in range(450):
        files.append(anonymous_file())
        write_all(files[-1], [b"%d" % i])
    sender = threading.Thread(target=lambda: (left.send("first"), left.send({"large": bytes(10**7)}, files), left.close()))
    sender.start()
    assert right.receive() == ("first", [])
    message, received = right.receive()
    assert len(message["large"]) == 10**7
    assert [os.pread(file, 9, 0) for file in received] == [b"%d" % i for i in range(450)]
    with pytest.raises(Closed):
        right.receive()
    sender.join()
    for file in [*files, *received]:
        os.close(file)
    right.close()


def test_large_arrays_are_mapped_and_changes_are_private():
    big, small = np.arange(100_000.0), np.arange(3.0)
    file = dump({"big": big, "again": big[5:], "small": small, "code": lambda x: x + small})
    one, other = load_shared(file), load_shared(file)
    one["big"][0] = 7
    assert other["big"][0] == 0
    assert one["code"](1).tolist() == [1, 2, 3]
    os.close(file)


def test_shared_contents_are_contents():
    contents = SharedContents()
    writer = contents.create("a")
    writer.write(b"hello ")
    writer.write(b"world")
    writer.commit()
    contents.link("a", "b")
    contents.remove("a")
    content = contents.open("b")
    contents.remove("b")  # whoever has it open goes on reading
    assert content.read(6, 5) == b"world"
    content.close()
    contents.create("c").abort()
    with pytest.raises(Exception, match="the content 'c' is missing"):
        contents.open("c")
    contents.close()


def test_files_that_do_not_arrive_because_too_many_are_open_are_said_to_be_too_many():
    ours, theirs = (Channel(end) for end in socket.socketpair())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    fd = anonymous_file()
    theirs.send("message", [fd] * 8)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            ours.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        os.close(fd)
        ours.close()
        theirs.close()
