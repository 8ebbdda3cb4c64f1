"""The journal of a run in a database: SQLite by default, PostgreSQL by its URL.

Knows rows; knows neither what an input means nor what a run does with it.

- SQLite works in WAL mode, which needs a local file system. A commit survives the death of the process; under "power" it is
  flushed, too. PostgreSQL flushes by itself.
- A database that refuses (it is being restarted, the disk is full) is tried again. A transaction whose fate is unknown,
  because the connection broke during its commit, is looked up before it is written again.
- Two coordinators of one run: PostgreSQL has an advisory lock, which the second does not get; and whoever writes an entry
  that is already there under its number is refused by the primary key, whatever happened to locks.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from umbel.errors import RunLocked, StoreError
from umbel.runtime.contents import Contents, FileContents
from umbel.runtime.failpoints import failpoint
from umbel.runtime.log import logger
from umbel.runtime.observers.history import History
from umbel.runtime.retry import retry
from umbel.runtime.stores import tables
from umbel.runtime.stores.audit import Auditor, Line
from umbel.runtime.stores.base import Entry, Keeping, Snapshot, Unit
from umbel.runtime.stores.codec import check_of, decode_state, digest, encode, encode_notices
from umbel.runtime.stores.database import Database, Stored
from umbel.runtime.stores.engine import Direct, cause_of, lock_run, refusal
from umbel.runtime.stores.mark import Far, Mark
from umbel.runtime.sums import Sum

__all__ = ["SqlStore"]


class SqlStore:
    """The journal of one run. The loop's thread writes; `accepted` may be asked from any thread.

    Raises `RunLocked` where another process coordinates the run.
    """

    unit = Unit.INPUT

    def __init__(self, database: Database, run: str, contents: FileContents, keeping: Keeping | None = None) -> None:
        self.contents: Contents = contents
        self._keeping = keeping or Keeping()
        self._database = database
        self._run = run
        dialect = database.engine.dialect
        self._insert_entries = Direct(tables.journal.insert(), dialect)
        self._insert_sums = Direct(tables.contents.insert(), dialect)
        mine = tables.contents.c.run == sa.bindparam("run"), tables.contents.c.name == sa.bindparam("name")
        self._delete_sums = Direct(tables.contents.delete().where(*mine), dialect)
        self._sums: dict[str, Sum | None] = {}  # of contents that have come, or gone (None), since the last transaction
        self._connection: sa.Connection | None = None
        self._seq = 0
        self._told = 0  # rows of the History
        self._rounds = 0  # that the newest snapshot has
        self._wal: int | None = None  # inode of the -wal file of this connection, once it has written
        self._mark = Mark(contents.folder, database.file)
        self._marks: list[tuple[int, int]] = [(0, 0)]  # entries and rounds of the snapshots that bound what is trimmed
        self._auditor: Auditor | None = None
        try:
            retry(self._begin, patience=self._keeping.patience)
            self._compare_mark()
            sums = database.sums(run)
            contents.sums.expect(sums, database.audited(run, sums) if self._keeping.audit else {})
        except BaseException:
            self._drop()
            raise
        self._changes = contents.sums.changes()

    def write(
        self,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
        states: Callable[[], Iterable[tuple[str, bytes]]] = tuple,
    ) -> None:
        """`states()` are what simulated clients keep, by name: they are part of the same transaction."""
        numbered = list(enumerate(entries, self._seq + 1))
        rows = [self._journal_row(seq, entry) for seq, entry in numbered]
        while self._changes:
            name, known = self._changes.popleft()
            self._sums[name] = known
        lines = self._auditor.lines(numbered, time.time()) if self._auditor is not None else []
        last = self._seq + len(rows)
        marks = self._marks if snapshot is None else self._move_marks((last, snapshot.state.completed))
        frozen = snapshot is not None and marks[-1][0] == last > 0
        told = self._told + (snapshot is not None and len(snapshot.told) > 0)

        def work(connection: sa.Connection) -> None:
            if rows:
                self._insert_entries(connection, rows)
            if self._sums:
                self._write_sums(connection)
            failpoint("journal.inside-transaction")
            if lines:
                connection.execute(tables.audit.insert(), [{"run": self._run, **asdict(line)} for line in lines])
                failpoint("audit.inside-transaction")
            if snapshot is not None:
                mine = tables.snapshots.c.run == self._run
                replaced = sa.or_(tables.snapshots.c.frozen.is_(False), tables.snapshots.c.seq == last)
                connection.execute(tables.snapshots.delete().where(mine, replaced))
                failpoint("snapshot.inside-transaction")
                if told > self._told:
                    connection.execute(tables.history.insert(), self._history_row(told, snapshot))
                connection.execute(tables.snapshots.insert(), self._snapshot_row(last, snapshot, told, frozen))
            for client, body in states():
                theirs = tables.states.c.run == self._run, tables.states.c.client == client
                connection.execute(tables.states.delete().where(*theirs))
                values = {"run": self._run, "client": client, "body": body}
                connection.execute(tables.states.insert(), {**values, "checked": check_of(*values.values())})
            if marks[0] != self._marks[0]:
                base = marks[0][0]
                old = tables.snapshots.c.run == self._run, tables.snapshots.c.seq < base
                connection.execute(tables.snapshots.delete().where(*old))
                failpoint("trim.inside-transaction")
                past = tables.journal.c.run == self._run, tables.journal.c.seq <= base
                connection.execute(tables.journal.delete().where(*past))

        failpoint("journal.before-append")
        self._transaction(work, last)
        self._seq, self._marks, self._told, self._sums = last, marks, told, {}
        self._rounds = self._rounds if snapshot is None else snapshot.state.completed
        self._mark.write(Far(last, self._rounds))
        if self._auditor is not None:
            self._auditor.written(lines)
        failpoint("journal.after-append")

    def _journal_row(self, seq: int, entry: Entry) -> dict[str, object]:
        event, said = entry.event, digest(entry.commands)
        values = {
            "run": self._run, "seq": seq, "at": entry.at, "type": type(event).__name__, "body": encode(event), "said": said
        }
        return {**values, "task": entry.counted, "checked": check_of(*values.values())}

    def _history_row(self, number: int, snapshot: Snapshot) -> dict[str, object]:
        values = {"run": self._run, "number": number, "whole": False, "body": encode_notices(snapshot.told)}
        return {**values, "checked": check_of(*values.values())}

    def _snapshot_row(self, seq: int, snapshot: Snapshot, told: int, frozen: bool) -> dict[str, object]:
        state = encode(snapshot.state)
        values = {"run": self._run, "seq": seq, "at": snapshot.at, "state": state, "told": told, "frozen": frozen}
        return {**values, "checked": check_of(*values.values())}

    def _move_marks(self, mark: tuple[int, int]) -> list[tuple[int, int]]:
        """The marks after a snapshot there. The journal begins at the first of them, `keep` to twice as many rounds ago."""
        keep = self._keeping.rounds
        if keep is None or mark[1] - self._marks[-1][1] < keep:
            return self._marks
        return [*self._marks, mark][-2:]

    def _write_sums(self, connection: sa.Connection) -> None:
        self._delete_sums(connection, [{"run": self._run, "name": name} for name in self._sums])
        there = [(name, known) for name, known in self._sums.items() if known is not None]
        if there:
            rows = [{"run": self._run, "name": name, **known._asdict()} for name, known in there]
            self._insert_sums(connection, rows)

    def accepted(self, task: str) -> bool:
        """Whether a reply to this task has counted, as the journal says."""
        query = sa.select(tables.journal.c.seq).where(tables.journal.c.run == self._run, tables.journal.c.task == task)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def with_state(self) -> frozenset[str]:
        """The simulated clients that have kept something."""
        query = sa.select(tables.states.c.client).where(tables.states.c.run == self._run)
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def state_of(self, client: str) -> bytes:
        """What a simulated client has kept, b"" for nothing."""
        mine = tables.states.c.run == self._run, tables.states.c.client == client
        with self._database.reading() as connection:
            row = connection.execute(tables.states.select().where(*mine)).first()
        if row is None:
            return b""
        self._database.check(row, f"the state of client {client} in run {self._run}", self._run, client, row.body)
        body: bytes = row.body
        return body

    def load(self) -> Stored:
        """The newest snapshot, and the journal after it."""
        kept = self._database.snapshots(self._run)
        newest = kept[-1] if kept else Stored(None, History(), 0.0, 0, iter(()))
        entries = self._database.entries(self._run, after=newest.seq)
        return Stored(newest.state, newest.history, newest.at, newest.seq, iter(entries))

    @property
    def begun(self) -> bool:
        """Whether anything of the run has been kept."""
        return self._seq > 0 or self._rounds > 0 or self._told > 0

    @property
    def head(self) -> bytes | None:
        """The audit's last hash; None where no audit is kept."""
        return None if self._auditor is None else self._auditor.head

    def note(self, name: str, value: object) -> None:
        self._change_run(lambda row: {"fingerprint": json.dumps(json.loads(row.fingerprint) | {name: value})})

    def finish(self, status: str) -> None:
        failpoint("run.before-finish")
        self._change_run(lambda row: {"status": status})
        self._mark.remove()
        failpoint("run.after-finish")

    def _change_run(self, change: Callable[[sa.Row[Any]], dict[str, str]]) -> None:
        mine = tables.runs.c.run == self._run

        def work(connection: sa.Connection) -> None:
            row = connection.execute(tables.runs.select().where(mine)).one_or_none()
            if row is not None:
                new = {"status": row.status, "fingerprint": row.fingerprint} | change(row)
                checked = check_of(row.run, row.created, new["status"], new["fingerprint"])
                connection.execute(tables.runs.update().where(mine).values(**new, checked=checked))

        self._transaction(work)

    def close(self) -> None:
        self._mark.close()
        self._drop()
        self._database.close()

    # ---- the connection

    def _begin(self) -> None:
        """Connects, takes the run's lock and reads how far its journal goes."""
        self._connect()
        told = sa.select(sa.func.max(tables.history.c.number)).where(tables.history.c.run == self._run)
        with self._database.reading() as connection:
            self._seq = self._last(connection)
            self._told = connection.execute(told).scalar() or 0
        rows = [(row.seq, row.frozen, decode_state(row.state).completed) for row in self._database.snapshot_rows(self._run)]
        self._rounds = rows[-1][2] if rows else 0
        self._marks = [(0, 0), *((seq, rounds) for seq, frozen, rounds in rows if frozen)][-2:]
        if self._keeping.audit:
            self._auditor = Auditor(self._run, self.contents, self._newest_line())

    def _compare_mark(self) -> None:
        """Says it where the database has lost its end."""
        far, written = self._mark.read(), ""
        if far.entry > self._seq:
            written = f"entry {far.entry}"
        elif far.rounds > self._rounds:
            written = f"round {far.rounds}"
        if written:
            logger.warning(
                "Run %s ends with entry %d and round %d in the run database, and %s was written: %s has lost its end, by a "
                "damaged or missing -wal file, an older copy, or a loss of power. The run goes on from there",
                self._run,
                self._seq,
                self._rounds,
                written,
                self._database.name,
            )

    def _newest_line(self) -> Line | None:
        query = tables.audit.select().where(tables.audit.c.run == self._run).order_by(tables.audit.c.number.desc())
        with self._database.reading() as connection:
            row = connection.execute(query.limit(1)).mappings().first()
        return None if row is None else Line(**{name: value for name, value in row.items() if name != "run"})

    def _connect(self) -> sa.Connection:
        if self._connection is None:
            try:
                connection = self._database.engine.connect()
                try:
                    lock_run(connection, self._run)
                except BaseException:
                    connection.invalidate()
                    connection.close()
                    raise
            except sa.exc.DBAPIError as error:
                raise refusal(f"cannot use the run database {self._database.name}", error) from error
            self._connection, self._wal = connection, None
        return self._connection

    def _drop(self) -> None:
        """Gives up the connection, and with it the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                connection.invalidate()
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                connection.close()

    def _check_files(self) -> None:
        """Raises `StoreError` where somebody has taken the files of a SQLite database away: it would not notice."""
        database = self._database
        if database.inode != database.inode_now or (self._wal and self._wal != database.wal):
            raise StoreError(
                f"the run database {database.file} was removed or replaced while run {self._run} was on, and nothing more "
                "of it is kept. Put it back (with its -wal file) and start again, or begin anew with fresh=True"
            )

    def _last(self, connection: sa.Connection) -> int:
        """The number of the journal's last entry, also where all of them have been trimmed."""
        found = [
            connection.execute(sa.select(sa.func.max(table.c.seq)).where(table.c.run == self._run)).scalar()
            for table in (tables.journal, tables.snapshots)
        ]
        return max(seq or 0 for seq in found)

    def _transaction(self, work: Callable[[sa.Connection], object], last: int | None = None) -> None:
        """Does `work` and commits, all or nothing. The journal then ends with the entry `last`.

        Raises `RunLocked` where another process has written to this journal, and `StoreError`.
        """
        unsure = False

        def attempt() -> None:
            nonlocal unsure
            try:
                connection = self._connect()
                self._check_files()
                if unsure and last is not None and self._last(connection) == last > self._seq:
                    connection.rollback()
                    return  # the commit had come through
                if not connection.in_transaction():
                    connection.begin()
                work(connection)
                connection.commit()
                self._wal = self._wal or self._database.wal
            except sa.exc.IntegrityError as error:
                self._drop()
                with self._database.reading() as connection:
                    if self._last(connection) > self._seq:
                        raise RunLocked(
                            f"another process has written to the journal of run {self._run}: it coordinates the run now, "
                            "and this process must stop"
                        ) from error
                raise StoreError(f"cannot write the journal of run {self._run}: {cause_of(error)}") from error
            except sa.exc.DBAPIError as error:
                unsure = True
                self._drop()
                raise refusal(f"cannot write the journal of run {self._run}", error) from error

        retry(attempt, patience=self._keeping.patience)
