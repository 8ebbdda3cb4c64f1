"""What answers come to: offers, parts and commits as calls, without a listener, an event loop or a file."""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
import pytest

from umbel.door import Door
from umbel.errors import Rejected, WireError
from umbel.params import Params, gather, schema_of
from umbel.rounds.messages import Failed, FailureKind, Kind, Replied, Task
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.transports.http.owed import Owed
from umbel.runtime.transports.http.protocol import GO, Commit, FailureHead, Offer, Outcome, Refused, encode
from umbel.runtime.transports.http.replies import Replies, reject
from umbel.wire import encode_header

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)]
SCHEMA = schema_of(ARRAYS)
DATA = b"".join(gather(SCHEMA, ARRAYS, 0, SCHEMA.nbytes))


@pytest.fixture
def contents():
    return MemoryContents()


@pytest.fixture
def replies(contents):
    return Replies(contents, longest=10**6, values=1000)


def owed(kind=Kind.FIT):
    task = Task(f"run.1.{kind}.0.0", 1, kind, 0, 1, "a", None, {})
    return Owed(task, {}, Door(kind, SCHEMA if kind is Kind.FIT else None, 10**9, 10**9))


def offer(data=None, **changes):
    fields = {"num_examples": 3, "header": encode_header(SCHEMA), "size": SCHEMA.nbytes, "data": data}
    return Offer(**{**fields, "crc32": zlib.crc32(data or b""), **changes})


def taken(replies, one, offered, schema=SCHEMA):
    return replies.offer(one, offered, schema, replies.metrics(one, offered))


def test_an_offer_that_brings_its_data_is_an_answer(replies, contents):
    answer = taken(replies, owed(), offer(DATA, metrics=msgspec.Raw(encode({"loss": 0.5}))))
    assert isinstance(answer, Replied)
    assert (answer.reply.num_examples, answer.reply.metrics) == (3, {"loss": 0.5})
    content = contents.open(answer.reply.content)
    arrays = Params.from_bytes(bytearray(content.read(0, content.size))).arrays()
    assert all(np.array_equal(one, other) for one, other in zip(arrays, ARRAYS, strict=True))


def test_an_evaluation_is_an_answer_by_itself(replies):
    answer = taken(replies, owed(Kind.EVALUATE), Offer(num_examples=2, loss=0.25), schema_of([]))
    assert isinstance(answer, Replied)
    assert (answer.reply.loss, answer.reply.content) == (0.25, None)


def test_data_comes_in_parts_and_counts_once_it_is_committed(replies, contents):
    one = owed()
    assert taken(replies, one, offer()) == Outcome(GO)
    assert replies.receive(one, 0)(DATA[:10]) is None
    assert taken(replies, one, offer()) == Outcome(GO, offset=10), "whoever asks again hears how far it came"
    assert replies.receive(one, 10)(DATA[10:]) is None
    answer = replies.commit(one, one.upload, Commit(zlib.crc32(DATA)))
    assert isinstance(answer, Replied)
    assert contents.open(answer.reply.content).size == len(encode_header(SCHEMA)) + len(DATA)


def test_a_copy_of_a_part_that_is_overtaken_changes_nothing(replies):
    one = owed()
    taken(replies, one, offer())
    first, copy = replies.receive(one, 0), replies.receive(one, 0)
    assert first(DATA[:8]) is None
    assert copy(DATA[:8]) == Outcome(GO, "begun anew", 8)
    assert first(DATA[8:]) is None
    assert isinstance(replies.commit(one, one.upload, Commit(zlib.crc32(DATA))), Replied)


def test_another_offer_begins_anew_and_the_parts_of_the_one_before_are_refused(replies):
    one = owed()
    taken(replies, one, offer())
    old = replies.receive(one, 0)
    assert old(DATA[:8]) is None
    assert taken(replies, one, offer(num_examples=4)) == Outcome(GO)
    assert old(DATA[8:]) == Outcome(GO, "begun anew", 0)


def test_data_that_was_damaged_on_its_way_is_asked_for_from_the_start(replies):
    one = owed()
    outcome = taken(replies, one, offer(DATA, crc32=1))
    assert outcome == Outcome(GO, "the data was damaged on its way", 0)
    assert one.upload is None


@pytest.mark.parametrize(
    ("given", "schema", "why"),
    [
        (offer(DATA, size=1), SCHEMA, "the offer is of 1 bytes"),
        (offer(DATA[:-1]), SCHEMA, "35 bytes of data came, 36 were offered"),
        (offer(np.full(9, np.nan, np.float32).tobytes()), SCHEMA, "contains nan"),
        (offer(num_examples=-1), SCHEMA, "num_examples"),
    ],
)
def test_what_may_not_come_in_is_a_failed_task_and_nothing_of_it_is_kept(replies, contents, given, schema, why):
    one = owed()
    with pytest.raises((Rejected, WireError), match=why) as raised:
        taken(replies, one, given, schema)
    failed = reject(one, raised.value)
    assert failed.failure.kind is FailureKind.REJECTED
    assert why in failed.failure.text
    assert one.upload is None
    assert not contents._bytes


def test_an_offer_in_pieces_is_whole_once_its_last_message_says_so(replies):
    one, body = owed(), encode(offer(DATA))
    assert replies.piece(one, 0, body[:20]) == Outcome(GO, offset=20)
    assert replies.piece(one, 21, body[21:]).why.startswith("not the next piece")
    assert replies.piece(one, 20, body[20:]) == Outcome(GO, offset=len(body))
    whole = replies.whole_offer(one, Offer(pieces=len(body), crc32=zlib.crc32(body), have=["x"]))
    assert (whole.data, whole.have) == (DATA, ["x"])


def test_pieces_that_are_not_the_offer_are_asked_for_again_and_too_many_are_refused(replies):
    one = owed()
    replies.piece(one, 0, b"half of it")
    assert replies.whole_offer(one, Offer(pieces=100, crc32=0)).why.startswith("the pieces of the offer are not all of it")
    with pytest.raises(Refused, match="at most 1,000,000 bytes"):
        replies.piece(one, 999_999, b"12")


def test_a_client_that_fails_has_failed_and_what_it_had_begun_to_send_is_gone(replies):
    one = owed()
    taken(replies, one, offer())
    failed = replies.fail(one, FailureHead("made up", "a\0b"))
    assert isinstance(failed, Failed)
    assert (failed.failure.kind, failed.failure.text) == (FailureKind.RAISED, "a\\0b")
    assert one.upload is None
