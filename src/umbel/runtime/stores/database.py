"""A run database as it is read: runs, journals, snapshots, Histories. Knows rows, and whether they are what was written.

SQLite notices a page that cannot be one, and not a bit that flips in a value: so each row has the crc32 of its values, and
entries and rows of a History are numbered without a gap.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from umbel.dialogue import as_text
from umbel.errors import StoreError
from umbel.rounds.coordinator import State
from umbel.rounds.messages import Input
from umbel.runtime.observers.history import History
from umbel.runtime.retry import retry
from umbel.runtime.stores import tables
from umbel.runtime.stores.audit import Line
from umbel.runtime.stores.base import Durability
from umbel.runtime.stores.codec import check_of, decode_input, decode_notices, decode_state
from umbel.runtime.stores.engine import REMEDY, begin_alone, cause_of, make_engine, refusal
from umbel.runtime.stores.tables import SCHEMA_VERSION
from umbel.runtime.sums import Sum

__all__ = ["Database", "Kept", "RunRow", "Stored"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it is listed."""

    run: str
    created: float
    status: str
    fingerprint: dict[str, object]


class Kept(NamedTuple):
    """A journal entry as it was kept. `said` is the digest of the commands that it caused; None where none was written."""

    seq: int
    event: Input
    at: float
    said: bytes | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A run as it was kept: a snapshot with its run time and the number of its last entry, and the journal after it."""

    state: State | None
    history: History
    at: float
    seq: int
    entries: Iterator[Kept]


class Database:
    """All runs in one database.

    One that an older Umbel wrote is migrated. Raises `StoreError` for one that a newer wrote, that is damaged, or that
    cannot be opened.
    """

    def __init__(self, url: str | sa.URL, *, durability: Durability = "process", patience: float = 0.0) -> None:
        self.engine = make_engine(url, durability)
        self.name = _name_of(self.engine.url)
        self.file = _file_of(self.engine)
        try:
            retry(self._prepare, patience=patience)
        except BaseException:
            self.close()
            raise
        self.inode = self.inode_now

    def _prepare(self) -> None:
        try:
            with self.engine.connect() as connection:
                begin_alone(connection)
                version = tables.version_of(connection)
                if version is None:
                    tables.create(connection)
                elif version < SCHEMA_VERSION:
                    tables.migrate(connection, version)
                connection.commit()
        except sa.exc.DBAPIError as error:
            raise refusal(f"cannot open the run database {self.name}", error) from error
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"cannot open the run database {self.name}: {cause_of(error)}") from error
        if version is not None and version > SCHEMA_VERSION:
            raise StoreError(
                f"the run database {self.name} has schema version {version}, this Umbel writes "
                f"{SCHEMA_VERSION}; use the Umbel that wrote it, or another store="
            )

    @property
    def inode_now(self) -> int:
        """Of the file of this name, where the database is one; 0 where there is none."""
        return _inode(self.file)

    @property
    def wal(self) -> int:
        """The inode of the -wal file."""
        return _inode(f"{self.file}-wal" if self.file else None)

    def check_pages(self) -> None:
        """Raises `StoreError` where SQLite finds a page, or an index, that cannot be right; 6 ms per MB."""
        if self.file is not None:
            (found,) = self._rows(sa.text("PRAGMA integrity_check(1)"))[0]
            if found != "ok":
                raise self.damaged(" ".join(str(found).split()))

    def runs(self) -> list[RunRow]:
        """All runs, the newest first."""
        rows = self._rows(tables.runs.select().order_by(tables.runs.c.created.desc()))
        for row in rows:
            self.check(row, f"the row of run {row.run}", row.run, row.created, row.status, row.fingerprint)
        return [RunRow(row.run, row.created, row.status, json.loads(row.fingerprint)) for row in rows]

    def add(self, run: str, fingerprint: Mapping[str, object]) -> None:
        created, text = time.time(), json.dumps(fingerprint, default=repr)
        values = {"run": run, "created": created, "status": "running", "fingerprint": text}
        with self.reading() as connection:
            connection.execute(tables.runs.insert().values(**values, checked=check_of(*values.values())))

    def snapshots(self, run: str) -> list[Stored]:
        """The snapshots that are kept, the oldest first, each with no entries."""
        rows = self.snapshot_rows(run)
        return [Stored(decode_state(row.state), self.history(run, row.told), row.at, row.seq, iter(())) for row in rows]

    def snapshot_rows(self, run: str) -> Sequence[sa.Row[Any]]:
        """The rows of the snapshots, which are what was written, the oldest first."""
        rows = self._rows(tables.snapshots.select().where(tables.snapshots.c.run == run).order_by(tables.snapshots.c.seq))
        for row in rows:
            values = run, row.seq, row.at, row.state, row.told, row.frozen
            self.check(row, f"the snapshot after entry {row.seq} of run {run}", *values)
        return rows

    def history(self, run: str, last: int) -> History:
        """The History of a run, up to its row of this number."""
        mine = tables.history.c
        begins = sa.select(sa.func.max(mine.number)).where(mine.run == run, mine.number <= last, mine.whole.is_(True))
        first = (self._rows(begins)[0][0] or 1) if last else 1
        query = tables.history.select().where(mine.run == run, mine.number.between(first, last)).order_by(mine.number)
        rows = self._rows(query)
        self._check_numbers(f"the History of run {run}", [row.number for row in rows], range(first, last + 1))
        history = History()
        for row in rows:
            values = run, row.number, row.whole, row.body
            self.check(row, f"row {row.number} of the History of run {run}", *values)
            if row.whole:
                history = History.from_bytes(row.body)
                continue
            for event in decode_notices(row.body):
                history.observe(event)
        return history

    def entries(self, run: str, *, after: int = 0) -> list[Kept]:
        """The journal after the entry of this number; where it was trimmed, from its first entry on."""
        journal = tables.journal.c
        query = tables.journal.select().where(journal.run == run, journal.seq > after).order_by(journal.seq)
        rows = self._rows(query)
        first = after + 1 if after or not rows else rows[0].seq
        self._check_numbers(f"the journal of run {run}", [row.seq for row in rows], range(first, first + len(rows)))
        for row in rows:
            self.check(row, f"entry {row.seq} of run {run}", run, row.seq, row.at, row.type, row.body, row.said)
        return [Kept(row.seq, decode_input(row.type, row.body), row.at, row.said) for row in rows]

    def sums(self, run: str) -> dict[str, Sum]:
        """Size and crc32 of every content of this run, by name."""
        rows = self._rows(tables.contents.select().where(tables.contents.c.run == run))
        return {row.name: Sum(row.size, row.crc32) for row in rows}

    def audit(self, run: str) -> Iterator[Line]:
        """The audit's lines, in order."""
        query = tables.audit.select().where(tables.audit.c.run == run).order_by(tables.audit.c.number)
        with self.reading() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query).mappings():
                yield Line(**{name: value for name, value in row.items() if name != "run"})

    def audited(self, run: str, names: Iterable[str]) -> dict[str, bytes]:
        """The digests that the audit has of these contents: of versions of the model, and of what clients sent."""
        digests: dict[str, bytes] = {}
        line = tables.audit.c
        for name in names:
            task, _, number = name.rpartition("-")
            told = line.task == task
            if task == "model":
                told = sa.and_(line.verdict == "version", line.why == (number.lstrip("0") or "0"))
            query = sa.select(line.content).where(line.run == run, line.content.is_not(None), told)
            for row in self._rows(query.order_by(line.number.desc()).limit(1)):
                digests[name] = row.content
        return digests

    def close(self) -> None:
        self.engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction. What the database refuses inside becomes a `StoreError`."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise refusal(f"cannot use the run database {self.name}", error) from error
        except (UnicodeError, OverflowError) as error:  # a value that no Umbel has written
            raise self.damaged(str(error)) from error

    def damaged(self, what: str) -> StoreError:
        return StoreError(f"the run database {self.name} is damaged: {what}. {REMEDY}")

    def _rows(self, query: sa.Select[Any] | sa.TextClause) -> Sequence[sa.Row[Any]]:
        with self.reading() as connection:
            return connection.execute(query).all()

    def check(self, row: sa.Row[Any], what: str, *values: object) -> None:
        """Raises `StoreError` where these values of a row are not those that were written."""
        if row.checked is not None and row.checked != check_of(*values):
            raise self.damaged(f"{what} is not what was written")

    def _check_numbers(self, what: str, found: Sequence[int], expected: Sequence[int]) -> None:
        if list(found) != list(expected):
            raise self.damaged(f"{what} lacks number {min(set(expected) - set(found), default='?')}")


def _name_of(url: sa.URL) -> str:
    """The URL without its password."""
    try:
        return repr(url)
    except UnicodeEncodeError:  # a folder whose name is not Unicode
        return as_text(f"{url.drivername}:///{url.database}")


def _file_of(engine: sa.Engine) -> str | None:
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name.startswith((":memory:", "file:")):
        return None
    return os.path.abspath(name)  # now: users' code may change the folder


def _inode(path: str | None) -> int:
    if path is None:
        return 0
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
