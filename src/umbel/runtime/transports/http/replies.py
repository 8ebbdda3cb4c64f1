"""What a client's answer to a task comes to: a word to its sender, or something for the run's loop to decide. Without I/O.

Knows offers, parts and contents; knows no requests, no sessions and no event loop. Each call takes one message of an answer
and what is owed (`owed.py`), and returns either an `Outcome`, which its sender is told, or what the loop hears of: `Replied`
where the answer is complete and may come in, `Failed` where it may not, or where the client says that it has failed.

    offer ──► GO, offset ──► part ──► GO, offset ──► … ──► commit ──► Replied
      │ (small: data and all)                                            ▲
      └──────────────────────────────────────────────────────────────────┘

An offer that is too large for something on the way comes in pieces before (`piece`, `whole_offer`). What a part or an offer
breaks off is thrown away: the sender asks, or is told, where to begin.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from msgspec.structs import replace

from umbel.errors import Rejected, WireError
from umbel.rounds.messages import Failed, Failure, FailureKind, Kind, Replied, Reply
from umbel.runtime.contents import Contents
from umbel.runtime.failpoints import failpoint
from umbel.runtime.security.signatures import hasher
from umbel.runtime.surplus import Surplus
from umbel.runtime.transports.http.draft import Draft
from umbel.runtime.transports.http.owed import Owed
from umbel.runtime.transports.http.protocol import (
    GO,
    Commit,
    FailureHead,
    Offer,
    Outcome,
    Refused,
    decode,
    encode,
    metrics_of,
)
from umbel.runtime.transports.http.upload import Upload
from umbel.update import MODEL
from umbel.wire import Schema, Source

__all__ = ["NO_OFFER", "Replies", "reject"]

NO_OFFER = Outcome(GO, "make an offer first", 0)

Taken = Outcome | Replied | Failed


class Replies:
    """Takes answers into `contents`. An offer has at most `longest` bytes and `values` values.

    Where answers are `signed`, their sender signs for all of the data in the end.
    """

    def __init__(self, contents: Contents, *, longest: int, values: int, signed: bool = False) -> None:
        self._contents = contents
        self.longest, self.values = longest, values
        self._signed = signed
        self._surplus = Surplus()

    def fail(self, owed: Owed, told: FailureHead) -> Failed:
        """The task has failed, in its client's words."""
        owed.withdraw_upload()  # it had begun to send an answer
        return Failed(owed.task.id, _failure(told))

    def metrics(self, owed: Owed, offer: Offer) -> dict[str, object] | None:
        """An offer's metrics; None where they are too many to be read. Raises `WireError` for what are none."""
        return metrics_of(offer, owed.door.room.encoded, self.values)

    def offer(self, owed: Owed, offer: Offer, schema: Schema, metrics: dict[str, object] | None) -> Taken:
        """Admits an offer whose header says `schema`, and its data where they came along.

        Raises `Rejected` and `WireError` where it may not come in: see `reject`.
        """
        if offer.size != schema.nbytes:
            raise WireError(f"the offer is of {offer.size} bytes, its header describes {schema.nbytes}")
        task = owed.task
        carries = task.kind in (Kind.FIT, Kind.PARAMETERS)
        content = f"{task.id}-{secrets.token_hex(4)}" if carries else None
        reply = owed.door.admit(self._reply(owed, offer, metrics, content), schema)
        if content is None:
            return Replied(task.id, reply)
        upload = owed.upload
        again = upload is not None and upload.received and offer.data is not None  # a part has come; now all of it does
        if upload is None or upload.schema != schema or not _same(upload.reply, reply) or again:
            owed.withdraw_upload()
            check = owed.door.value_check(schema, self._given(owed))
            digest = hasher() if self._signed and offer.data is None else None
            upload = owed.upload = Upload(self._contents, content, schema, reply, check, digest)
        if offer.data is None and schema.nbytes:
            failpoint("upload.offered")
            return Outcome(GO, offset=upload.received)
        upload.feed(offer.data or b"")
        return self.commit(owed, upload, Commit(offer.crc32))  # the message was signed as a whole

    def piece(self, owed: Owed, offset: int, data: bytes) -> Outcome:
        """Takes the next piece of an offer. Raises `Refused` where that is too long."""
        if offset + len(data) > self.longest:
            raise Refused(413, f"an offer has at most {self.longest:,} bytes")
        if offset == 0:
            owed.withdraw_draft()
            owed.draft = Draft(self._contents, f"{owed.task.id}-offer-{secrets.token_hex(4)}")
        draft = owed.draft
        if draft is None or draft.received != offset:
            return Outcome(GO, "not the next piece of the offer; begin it anew", 0)
        draft.feed(data)
        return Outcome(GO, offset=draft.received)

    def whole_offer(self, owed: Owed, last: Offer) -> Offer | Outcome:
        """The offer whose pieces have come, completed by its last message. Raises `WireError` where it is none."""
        whole = None if owed.draft is None else owed.draft.complete(last.pieces, last.crc32)
        owed.draft = None
        if whole is None:
            return Outcome(GO, "the pieces of the offer are not all of it; send them again")
        offer = decode(whole, Offer, self.values)
        offer.have = last.have
        return offer

    def receive(self, owed: Owed, offset: int) -> Callable[[bytes], Outcome | None]:
        """Begins a part of the data that must be the next: the function that takes its bytes as they come.

        That returns None as long as it goes well, and why it does not else: withdrawn, or overtaken by a copy of the same
        part. It raises `Rejected` for values that may not come in.
        """
        upload, at = owed.upload, offset

        def feed(data: bytes) -> Outcome | None:
            nonlocal at
            if upload is None or upload is not owed.upload or at != upload.received:
                return Outcome(GO, "begun anew", upload.received if upload is not None and upload is owed.upload else 0)
            upload.feed(data)
            at += len(data)
            failpoint("upload.receiving")
            return None

        return feed

    def commit(self, owed: Owed, upload: Upload, commit: Commit) -> Taken:
        """Makes the answer complete. Raises `Rejected` where it may not come in."""
        failpoint("upload.before-commit")
        if not upload.commit(commit.crc32, commit.blake3):
            owed.upload = None
            return Outcome(GO, "the data was damaged on its way", 0)
        failpoint("upload.after-commit")
        return Replied(owed.task.id, upload.reply)

    def _reply(self, owed: Owed, offer: Offer, metrics: dict[str, object] | None, content: str | None) -> Reply:
        """What the offer says, with as many of its metrics as there is room for."""
        taken = owed.door.metrics(metrics or {})
        left_out = max(offer.surplus, 0) + len(metrics or {}) - len(taken)
        if left_out or metrics is None:
            all_of_them = f"all {len(offer.metrics):,} bytes of metrics"
            what = all_of_them if metrics is None else f"{left_out:,} metrics"
            self._surplus.say(owed.task.client, owed.task.kind, what)
        return Reply(offer.num_examples, offer.loss, {**taken}, content)

    def _given(self, owed: Owed) -> tuple[Schema, Source] | None:
        """What the client of a task was given, where its update is measured against it."""
        if MODEL not in owed.given or owed.door.max_norm is None:
            return None
        content = self._contents.open(owed.given[MODEL])
        return content.schema, content.source


def reject(owed: Owed, why: Rejected | WireError) -> Failed:
    """An answer that may not come in: nothing of it is kept, and the task has failed."""
    owed.withdraw()
    return Failed(owed.task.id, Failure(FailureKind.REJECTED, str(why)))


def _same(one: Reply, other: Reply) -> bool:
    # as bytes: a NaN is like no other
    return encode(replace(one, content=None)) == encode(replace(other, content=None))


def _failure(told: FailureHead) -> Failure:
    """A failure in its client's words, without the U+0000 that PostgreSQL takes in no text."""
    known = FailureKind.REJECTED, FailureKind.EMPTY
    kind = next((kind for kind in known if kind == told.kind), FailureKind.RAISED)
    return Failure(kind, told.text[:4000].replace("\0", "\\0"), told.detail[:40_000].replace("\0", "\\0"))
