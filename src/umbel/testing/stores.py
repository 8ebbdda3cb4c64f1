"""What every store promises, as a check that anyone can run on one of their own. Knows no database and no network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from umbel.errors import StoreError
from umbel.params import NDArrays, Params, gather, schema_of
from umbel.rounds.coordinator import State
from umbel.rounds.messages import Joined, Replied, Reply, Settle, Started, Verdict
from umbel.runtime.contents import Contents, write_content
from umbel.runtime.stores.base import Entry, Snapshot, Store, Unit
from umbel.testing.demand import demand

__all__ = ["check_store"]

_ARRAYS: NDArrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7], np.int64)]


def check_store(open_store: Callable[[], Store]) -> None:
    """Checks what the loop of a run relies on. Raises `AssertionError`.

    `open_store()` opens the store of one run, with nothing in it the first time. A journal (`Unit.INPUT`) is opened again
    after it was closed.

    Of its contents: a content has its name once it is committed, and has all of it; one that is given up leaves nothing;
    what is removed, or never was, is a `StoreError`. Of a journal: a reply counts once it is written with its
    verdict, and not before, and a second one of the same task is refused, with all that would be written beside it. All of
    it is there when the journal is opened again.

    >>> from umbel.runtime.stores.memory import MemoryStore
    >>> check_store(MemoryStore)
    """
    store = open_store()
    try:
        _check_contents(store.contents)
        _check_journal(store)
        store.note("a fact", ["of", "the", "run"])
        demand(store.head is None or isinstance(store.head, bytes), f"head is {store.head!r}; it is None or the last hash")
    finally:
        store.close()
    if store.unit is not Unit.INPUT:
        return
    again = open_store()
    try:
        content = again.contents.open("kept")
        demand(_read(content.read(0, content.size)), "a content is not what was written before the store was closed")
        content.close()
        demand(again.accepted("run.1.fit.0.0"), "a reply that counted does not count after the store was closed")
        _check_twice(again)
        again.finish("finished")
    finally:
        again.close()


def _check_contents(contents: Contents) -> None:
    schema = schema_of(_ARRAYS)
    demand(not _has(contents, "kept"), "a content is there that nobody has written")
    write_content(contents, "kept", schema, gather(schema, _ARRAYS, 0, schema.nbytes))
    content = contents.open("kept")
    whole = content.read(0, content.size)
    demand(_read(whole), "a content is not what was written")
    demand(content.read(3, 20) == whole[3:23], "a part of a content is not that part of the whole")
    demand(b"".join(bytes(block) for block in content.blocks(5)) == whole[5:], "blocks() is not all from there on")
    content.close()

    begun = contents.create("begun")
    begun.write(b"half of it")
    demand(not _has(contents, "begun"), "a content has its name before it is committed")
    begun.abort()
    demand(not _has(contents, "begun"), "a content is there that was given up")
    write_content(contents, "gone", schema, gather(schema, _ARRAYS, 0, schema.nbytes))
    contents.link("gone", "linked")
    contents.remove("gone")
    contents.remove("gone")  # where it is not there, there is nothing to do
    demand(not _has(contents, "gone"), "a content is there that was removed")
    demand(_has(contents, "linked"), "a second name of a content goes with the first")
    contents.keep_only(["kept"])
    demand(_has(contents, "kept"), "keep_only() has removed what it was to keep")
    demand(not _has(contents, "linked"), "keep_only() has kept what nobody named")


def _check_journal(store: Store) -> None:
    counted, late = "run.1.fit.0.0", "run.1.fit.0.1"
    demand(not store.accepted(counted), "a reply counts that nobody has written")
    accepted = Entry(Replied(counted, Reply(3, 0.5, {"m": 1.0}, "kept")), 1.0, [Settle(counted, Verdict.ACCEPTED)])
    stale = Entry(Replied(late, Reply(3, 0.5, {}, None)), 2.0, [Settle(late, Verdict.STALE)])
    store.write([Entry(Started(), 0.0), Entry(Joined("a"), 0.5)], Snapshot(State(num_rounds=3), (), 0.5))
    store.write([accepted, stale])
    by_input = store.unit is Unit.INPUT
    demand(store.accepted(counted) is by_input, f"accepted() is {not by_input} for a reply that counts")
    demand(not store.accepted(late), "accepted() is True for a reply that came too late")
    if by_input:
        _check_twice(store)


def _check_twice(store: Store) -> None:
    task, beside = "run.1.fit.0.0", "run.1.fit.0.2"
    entries = [
        Entry(Replied(name, Reply(1, 0.0, {}, None)), 3.0, [Settle(name, Verdict.ACCEPTED)]) for name in (beside, task)
    ]
    try:
        store.write(entries)
    except StoreError:
        pass
    else:
        raise AssertionError("a second reply of the same task was written; an update counts once")
    demand(not store.accepted(beside), "a part of a transaction was kept that was refused")


def _has(contents: Contents, name: str) -> bool:
    try:
        contents.open(name).close()
    except StoreError:
        return False
    return True


def _read(data: bytes) -> bool:
    """Whether this is the content that was written."""
    arrays = Params.from_bytes(bytearray(data)).arrays()
    return all(np.array_equal(one, other) for one, other in zip(arrays, _ARRAYS, strict=True))
