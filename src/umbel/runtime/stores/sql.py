"""Runs in a database: SQLite by default, any other by its SQLAlchemy URL.

Knows rows; knows neither what an input means nor what a run does with it. SQLite works in WAL mode, which needs a local
file system; a commit survives the death of the process.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from umbel.errors import StoreError
from umbel.rounds.coordinator import State
from umbel.rounds.messages import Input, Replied
from umbel.runtime.contents import Contents
from umbel.runtime.stores.base import Snapshot, Unit
from umbel.runtime.stores.codec import decode_input, decode_state, encode

__all__ = ["Database", "RunRow", "SqlStore", "Stored"]

SCHEMA_VERSION = 2  # 2: a population in the snapshot's state

Row = dict[str, object]

_tables = sa.MetaData()
_meta = sa.Table("umbel_meta", _tables, sa.Column("schema_version", sa.Integer, nullable=False))
_runs = sa.Table(
    "umbel_runs",
    _tables,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("created", sa.Float, nullable=False),  # unix time, s
    sa.Column("status", sa.String(16), nullable=False),  # running, finished, stopped, failed
    sa.Column("fingerprint", sa.Text, nullable=False),
)
_journal = sa.Table(
    "umbel_journal",
    _tables,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Float, nullable=False),  # run time, s
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("task", sa.String(255)),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
# An update counts at most once, whatever the code above believes.
sa.Index(
    "umbel_one_reply_per_task",
    _journal.c.run,
    _journal.c.task,
    unique=True,
    sqlite_where=_journal.c.task.is_not(None),
    postgresql_where=_journal.c.task.is_not(None),
)
_snapshots = sa.Table(
    "umbel_snapshots",
    _tables,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),  # last journal row that is in it
    sa.Column("at", sa.Float, nullable=False),  # its run time, s
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("history", sa.LargeBinary, nullable=False),
)
_states = sa.Table(
    "umbel_client_states",
    _tables,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("client", sa.String(255), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it is listed."""

    run: str
    created: float
    status: str
    fingerprint: dict[str, object]


@dataclass(frozen=True, slots=True)
class Stored:
    """A run as it was kept: the newest snapshot with its run time, and the journal after it."""

    state: State | None
    history: bytes
    at: float
    entries: Iterator[tuple[Input, float]]


class Database:
    """All runs in one database. Raises `StoreError` for one that another version of Umbel wrote."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _configure_sqlite)
        try:
            with self.engine.begin() as connection:
                for table in _tables.sorted_tables:  # IF NOT EXISTS: two servers may begin at once
                    connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
                    for index in table.indexes:
                        connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
                version = connection.execute(sa.select(_meta.c.schema_version)).scalar()
                if version is None:
                    connection.execute(_meta.insert().values(schema_version=SCHEMA_VERSION))
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"cannot open the run database {self.engine.url!r}: {_cause(error)}") from error
        if version not in (None, SCHEMA_VERSION):
            raise StoreError(
                f"the run database {self.engine.url!r} has schema version {version}, this Umbel writes "
                f"{SCHEMA_VERSION}; use the Umbel that wrote it, or another store="
            )

    def runs(self) -> list[RunRow]:
        """All runs, the newest first."""
        with self.engine.begin() as connection:
            rows = connection.execute(_runs.select().order_by(_runs.c.created.desc())).all()
        return [RunRow(row.run, row.created, row.status, json.loads(row.fingerprint)) for row in rows]

    def add(self, run: str, fingerprint: Mapping[str, object]) -> None:
        with self.engine.begin() as connection:
            values = {"run": run, "created": time.time(), "status": "running", "fingerprint": json.dumps(fingerprint)}
            connection.execute(_runs.insert().values(values))

    def close(self) -> None:
        self.engine.dispose()


class SqlStore:
    """The journal of one run. The loop's thread writes; `accepted` may be asked from any thread."""

    unit = Unit.INPUT

    def __init__(self, database: Database, run: str, contents: Contents) -> None:
        self.contents = contents
        self._database = database
        self._run = run
        self._connection = database.engine.connect()
        self._journal_insert = _journal.insert().compile(dialect=database.engine.dialect)
        last = self._connection.execute(sa.select(sa.func.max(_journal.c.seq)).where(_journal.c.run == run)).scalar()
        self._connection.commit()
        self._seq: int = last or 0

    def write(
        self,
        entries: Sequence[tuple[Input, float]],
        snapshot: Snapshot | None = None,
        states: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """`states` are what simulated clients keep, by name: they are part of the same transaction."""
        rows: list[Row] = [
            {
                "run": self._run,
                "seq": seq,
                "at": at,
                "type": type(event).__name__,
                "task": event.task if isinstance(event, Replied) else None,
                "body": encode(event),
            }
            for seq, (event, at) in enumerate(entries, self._seq + 1)
        ]
        with self._transaction():
            if rows:
                self._insert_journal(rows)
            if snapshot is not None:
                self._connection.execute(_snapshots.delete().where(_snapshots.c.run == self._run))
                kept = {"seq": self._seq + len(rows), "at": snapshot.at, "history": snapshot.history}
                self._connection.execute(_snapshots.insert(), {"run": self._run, "state": encode(snapshot.state), **kept})
            for client, body in states:
                mine = {"run": self._run, "client": client}
                self._connection.execute(_states.delete().where(_states.c.run == self._run, _states.c.client == client))
                self._connection.execute(_states.insert(), {**mine, "body": body})
        self._seq += len(rows)

    def _insert_journal(self, rows: list[Row]) -> None:
        # The statement is compiled once and handed to the driver as it is: 0.1 ms less for each of a round's six.
        compiled = self._journal_insert
        if compiled.positional:
            order = compiled.positiontup or []
            self._connection.exec_driver_sql(str(compiled), [tuple(row[name] for name in order) for row in rows])
        else:
            self._connection.exec_driver_sql(str(compiled), rows)

    def accepted(self, task: str) -> bool:
        """Whether a reply to this task is in the journal."""
        query = sa.select(_journal.c.seq).where(_journal.c.run == self._run, _journal.c.task == task)
        with self._database.engine.begin() as connection:
            return connection.execute(query).first() is not None

    def state_of(self, client: str) -> bytes:
        """What a simulated client has kept, b"" for nothing."""
        query = sa.select(_states.c.body).where(_states.c.run == self._run, _states.c.client == client)
        body: bytes | None = self._connection.execute(query).scalar()
        self._connection.commit()
        return body or b""

    def load(self) -> Stored:
        """The newest snapshot, and the journal after it."""
        where = _snapshots.c.run == self._run
        row = self._connection.execute(_snapshots.select().where(where)).first()
        seq = 0 if row is None else row.seq
        query = _journal.select().where(_journal.c.run == self._run, _journal.c.seq > seq).order_by(_journal.c.seq)
        rows = self._connection.execute(query).all()
        self._connection.commit()
        entries = ((decode_input(entry.type, entry.body), entry.at) for entry in rows)
        if row is None:
            return Stored(None, b"", 0.0, entries)
        return Stored(decode_state(row.state), row.history, row.at, entries)

    def finish(self, status: str) -> None:
        with self._transaction():
            self._connection.execute(_runs.update().where(_runs.c.run == self._run).values(status=status))

    def close(self) -> None:
        self._connection.close()
        self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of what is inside, or none. Raises `StoreError`."""
        try:
            yield
            self._connection.commit()
        except sa.exc.SQLAlchemyError as error:
            self._connection.rollback()
            raise StoreError(f"cannot write the journal of run {self._run}: {_cause(error)}") from error


def _configure_sqlite(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # a DBAPI connection
    # NORMAL: a commit is in the WAL file when the call returns, which the death of the process cannot undo.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _cause(error: sa.exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error)
