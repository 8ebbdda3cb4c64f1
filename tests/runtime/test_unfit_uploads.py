"""An upload to a strategy that says nothing of what it receives: taken as it is, and the reply says what is odd in it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from umbel.door import Door
from umbel.errors import Rejected
from umbel.params import Params
from umbel.rounds.messages import Kind, Reply
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.transports.http.upload import Upload

MODEL = Params.of([np.zeros((2, 3), "float32"), np.zeros(4)])
NOT_FINITE = Params.of([np.full((2, 3), np.nan, "float32"), np.ones(4)])
FEWER = Params.of([np.zeros((2, 3), "float32")])


def sent(door, update):
    """The reply to an upload that came in pieces, and what was kept of it."""
    contents = MemoryContents()
    reply = door.admit(Reply(3, content="c"), update.schema)
    upload = Upload(contents, "c", update.schema, reply, door.value_check(update.schema))
    data = update.buffer.tobytes()
    for begin in range(0, len(data), 7):
        upload.feed(data[begin : begin + 7])
    assert upload.commit(zlib.crc32(data))
    return upload.reply, contents.open("c")


@pytest.mark.parametrize(
    ("update", "why"),
    [(NOT_FINITE, "array '0' contains nan"), (FEWER, "fit() returned 1 arrays, the model has 2 (missing '1', shape (4,))")],
    ids=["not finite", "fewer"],
)
def test_what_cannot_be_combined_is_kept_and_said(update, why):
    reply, kept = sent(Door(Kind.FIT, MODEL.schema, 10, 2**40, refuses=False), update)
    assert reply.unfit.startswith(why)
    assert kept.read(0, kept.size) == update.to_bytes()
    with pytest.raises(Rejected) as refused:
        sent(Door(Kind.FIT, MODEL.schema, 10, 2**40), update)
    assert str(refused.value) == reply.unfit


def test_of_what_is_like_the_model_nothing_is_said():
    reply, _ = sent(Door(Kind.FIT, MODEL.schema, 10, 2**40, refuses=False), MODEL)
    assert reply == Reply(3, content="c")
