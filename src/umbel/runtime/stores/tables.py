"""The tables of a run database, and how one of an older Umbel becomes one of this. Knows no runs.

Versions of the schema:

1. the first
2. a snapshot's pool is a population; a client manager's order has changed with it
3. digests of commands in the journal, several snapshots per run, the audit; the rules of a run are values, not a text
4. a History that grows by rows; checks of rows, and the sums of content files
5. a state has five phases, an open question, the name of its exchange, and how the run stands by what it watches
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from typing import Any

import msgspec
import sqlalchemy as sa

from umbel.errors import StoreError
from umbel.runtime.failpoints import failpoint
from umbel.runtime.stores.codec import check_of

__all__ = [
    "SCHEMA_VERSION",
    "audit",
    "contents",
    "create",
    "history",
    "journal",
    "meta",
    "migrate",
    "runs",
    "snapshots",
    "states",
    "version_of",
]

SCHEMA_VERSION = 5

_all = sa.MetaData()


def _check() -> sa.Column[int]:
    """The crc32 of the rest of a row, as `codec.check_of` makes it; NULL in rows that an older Umbel wrote."""
    return sa.Column("checked", sa.BigInteger)


meta = sa.Table("umbel_meta", _all, sa.Column("schema_version", sa.Integer, nullable=False))
runs = sa.Table(
    "umbel_runs",
    _all,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("created", sa.Float, nullable=False),  # unix time, s
    sa.Column("status", sa.String(16), nullable=False),  # running, finished, stopped, failed, abandoned
    sa.Column("fingerprint", sa.Text, nullable=False),
    _check(),
)
journal = sa.Table(
    "umbel_journal",
    _all,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Float, nullable=False),  # run time, s
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("task", sa.String(255)),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("said", sa.LargeBinary),  # digest of the commands that it caused
    _check(),
)
# An update counts at most once, whatever the code above believes.
sa.Index(
    "umbel_one_reply_per_task",
    journal.c.run,
    journal.c.task,
    unique=True,
    sqlite_where=journal.c.task.is_not(None),
    postgresql_where=journal.c.task.is_not(None),
)
snapshots = sa.Table(
    "umbel_snapshots",
    _all,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),  # last journal row that is in it
    sa.Column("at", sa.Float, nullable=False),  # its run time, s
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("told", sa.Integer, nullable=False),  # last row of the History that is in it
    sa.Column("frozen", sa.Boolean, nullable=False),  # stays when the next comes: the journal is trimmed up to it
    _check(),
)
history = sa.Table(
    "umbel_history",
    _all,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("whole", sa.Boolean, nullable=False),  # a History, as older Umbels kept it; else what has come to it
    sa.Column("body", sa.LargeBinary, nullable=False),
    _check(),
)
contents = sa.Table(
    "umbel_contents",
    _all,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),  # bytes
    sa.Column("crc32", sa.BigInteger, nullable=False),
)
states = sa.Table(
    "umbel_client_states",
    _all,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("client", sa.String(255), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _check(),
)
audit = sa.Table(
    "umbel_audit",
    _all,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("client", sa.String(255), nullable=False),
    sa.Column("task", sa.String(255), nullable=False),
    sa.Column("verdict", sa.String(32), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary),
    sa.Column("reply", sa.LargeBinary),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)


def version_of(connection: sa.Connection) -> int | None:
    """The schema version of a database; None for one without Umbel's tables."""
    if not sa.inspect(connection).has_table(meta.name):
        return None
    version: int | None = connection.execute(sa.select(meta.c.schema_version)).scalar()
    return version


def create(connection: sa.Connection) -> None:
    """Makes all tables, where they are not there."""
    _all.create_all(connection)
    connection.execute(meta.insert().values(schema_version=SCHEMA_VERSION))


def migrate(connection: sa.Connection, version: int) -> None:
    """Brings the tables of an older version up to this one, in the transaction that is open."""
    if version < 1:
        raise StoreError(f"a run database of schema version {version} was never written by any Umbel")
    if version < 3:
        connection.execute(sa.schema.CreateTable(audit))
        connection.execute(sa.schema.CreateTable(states, if_not_exists=True))  # some of version 2 have it
        _add(connection, journal.c.said)
    if version < 4:
        for table in (runs, journal, states):
            if table.c.checked.name not in _columns(connection, table):
                _add(connection, table.c.checked)
        _move_histories(connection, version)
        connection.execute(sa.schema.CreateTable(contents))
    _mend_states(connection)
    if version < 3:
        for run, text in connection.execute(sa.select(runs.c.run, runs.c.fingerprint)).all():
            changed = json.dumps(_with_rules(json.loads(text)))
            connection.execute(runs.update().where(runs.c.run == run).values(fingerprint=changed))
    connection.execute(meta.update().values(schema_version=SCHEMA_VERSION))


def _move_histories(connection: sa.Connection, version: int) -> None:
    """Until version 3 each snapshot had the whole History; each becomes a row of its own."""
    frozen = "frozen" if version > 2 else "0"
    rows = connection.exec_driver_sql(
        f"SELECT run, seq, at, state, history, {frozen} FROM {snapshots.name} ORDER BY run, seq"
    ).all()
    connection.exec_driver_sql(f"DROP TABLE {snapshots.name}")
    connection.execute(sa.schema.CreateTable(snapshots))
    connection.execute(sa.schema.CreateTable(history))
    told: Counter[str] = Counter()
    for run, seq, at, state, body, kept in rows:
        told[run] += 1
        connection.execute(history.insert().values(run=run, number=told[run], whole=True, body=body))
        mended = _with_population(state) if version < 2 else state
        values = {"run": run, "seq": seq, "at": at, "state": mended, "told": told[run], "frozen": bool(kept)}
        connection.execute(snapshots.insert().values(values))


def _columns(connection: sa.Connection, table: sa.Table) -> set[str]:
    return {column["name"] for column in sa.inspect(connection).get_columns(table.name)}


def _add(connection: sa.Connection, column: sa.Column[Any]) -> None:
    kind = column.type.compile(dialect=connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}")


def _with_population(state: bytes) -> bytes:
    """Version 1 had the names of the clients that are present, by arrival."""
    values = msgspec.msgpack.decode(state)
    values["pool"] = {"numbered": 0, "named": values["pool"], "away": {}}
    return msgspec.msgpack.encode(values)


# Until version 4: phase → the phase now, and the question that is open.
_PHASES = {
    "new": ("new", None),
    "init": ("asking", "initialize"),
    "waiting": ("waiting", None),
    "choosing": ("asking", "choose"),
    "fit": ("open", None),
    "stepping": ("asking", "step"),
    "testing": ("asking", "evaluate"),
    "evaluate": ("open", None),
    "summarizing": ("asking", "summarize"),
    "done": ("done", None),
}


def _mend_states(connection: sa.Connection) -> None:
    """Brings the states of snapshots from version 4 to version 5."""
    for row in connection.execute(snapshots.select()).all():
        failpoint("migration.inside-transaction")
        values = row.run, row.seq, row.at, row.state, row.told, row.frozen
        if row.checked not in (None, check_of(*values)):  # damaged, and it is the reader's to say so
            continue
        state = _with_exchange(row.state)
        checked = None if row.checked is None else check_of(*values[:3], state, *values[4:])
        this = snapshots.update().where(snapshots.c.run == row.run, snapshots.c.seq == row.seq)
        connection.execute(this.values(state=state, checked=checked))


def _with_exchange(state: bytes) -> bytes:
    values = msgspec.msgpack.decode(state)
    phase, values["exchange"] = values["phase"], values.pop("kind")
    seeding = "open" if values["wanted"] else "waiting", None
    values["phase"], values["question"] = seeding if phase == "seeding" else _PHASES[phase]
    for held in filter(None, (values, values.get("before"))):
        names = ("progress", "progress_round", "best", "best_version", "best_round")
        held["standing"] = {name: held.pop(name) for name in names if name in held}
    return msgspec.msgpack.encode(values)


def _with_rules(fingerprint: dict[str, object]) -> dict[str, object]:
    """Versions 1 and 2 had a text such as "2 clients, Pace(goal=None, quorum=0, deadline=None, retries=0)"."""
    text = fingerprint.get("rules")
    match = re.fullmatch(r"(\d+) clients, Pace\((.*)\)", text) if isinstance(text, str) else None
    if match is None:
        return fingerprint
    pace = dict(part.split("=") for part in match[2].split(", "))
    rules = {"min_available": int(match[1]), "pace": {name: ast.literal_eval(value) for name, value in pace.items()}}
    return {**fingerprint, "rules": rules}
