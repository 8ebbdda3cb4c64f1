"""How a run database is reached: its engine, its locks, and what its refusals mean. Knows no tables and no runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa

from umbel.errors import RunLocked, StoreError, StoreUnavailable
from umbel.runtime.stores.base import Durability

__all__ = ["REMEDY", "Direct", "begin_alone", "cause_of", "lock_run", "make_engine", "refusal"]

LOCK_WAIT = 5.0  # seconds: the server's end of a killed process's connection may outlive it for a moment

REMEDY = "Put back a copy of it (of SQLite: the -wal file, too), or begin anew with another store="

# SQLite's codes: a statement does not fit the tables, or the format is unknown; corrupt; another format; no database
_DAMAGED = {1, 11, 24, 26}


def refusal(what: str, error: sa.exc.DBAPIError) -> StoreError:
    """`StoreUnavailable` for what may pass by itself: no connection, no space, no free lock; else `StoreError`."""
    cause = cause_of(error)
    if getattr(error.orig, "sqlite_errorcode", None) in _DAMAGED or "Could not decode" in cause:
        return StoreError(f"{what}: it is damaged ({cause}). {REMEDY}")
    passing = isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)) or error.connection_invalidated
    wrong = any(words in cause for words in ("authentication failed", "does not exist", "no password supplied"))
    return (StoreUnavailable if passing and not wrong else StoreError)(f"{what}: {cause}")


def make_engine(url: str | sa.URL, durability: Durability) -> sa.Engine:
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StoreError(f"store={url!r} is no database URL, such as postgresql://user@host/name, and no folder") from None
    if address.drivername in ("postgres", "postgresql"):
        address = address.set(drivername="postgresql+psycopg")
    postgres = address.get_backend_name() == "postgresql"
    # A host that has gone without a word is noticed, on both ends, after some 15 s.
    alive = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3, "tcp_user_timeout": 15_000}
    options = {"connect_args": {"connect_timeout": 5, **alive}, "pool_pre_ping": True} if postgres else {}
    try:
        engine = sa.create_engine(address, **options)
    except ModuleNotFoundError as error:
        remedy = "pip install 'umbel[postgres]'" if postgres else f"install {error.name}"
        raise StoreError(f"store={address!r} needs the package {error.name}, which is not installed: {remedy}") from None
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(f"store={address!r} cannot be used: {error}") from None
    if postgres:
        sa.event.listen(engine, "connect", _configure_postgres)
    elif engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite(durability))
    return engine


class Direct:
    """A statement for many rows, compiled once and handed to the driver as it is, in a transaction that is open.

    What SQLAlchemy does for each execution takes 10 us: a transaction of a small round takes 97 us for 125.
    """

    def __init__(self, statement: sa.Insert | sa.Delete, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._order: list[str] | None = getattr(compiled, "positiontup", None)  # None: the driver takes names
        self._dialect = dialect

    def __call__(self, connection: sa.Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Raises `sa.exc.DBAPIError` as SQLAlchemy does."""
        order, driver = self._order, self._dialect.dbapi
        assert driver is not None
        taken = [dict(row) for row in rows] if order is None else [tuple([row[name] for name in order]) for row in rows]
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(self._text, taken)
        except driver.Error as error:
            lost = self._dialect.is_disconnect(error, connection.connection, cursor)
            raise sa.exc.DBAPIError.instance(
                self._text, None, error, driver.Error, connection_invalidated=lost, dialect=self._dialect
            ) from error
        finally:
            cursor.close()


def begin_alone(connection: sa.Connection) -> None:
    """Begins a transaction in which nobody else makes or changes tables: two servers may begin at once."""
    match connection.dialect.name:
        case "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        case "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_key("tables"))))
        case _:
            pass


def lock_run(connection: sa.Connection, run: str) -> None:
    """Takes the run's lock for as long as this connection lasts, where the database has such locks. Raises `RunLocked`."""
    if connection.dialect.name != "postgresql":
        return
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_WAIT:g}s'")
    try:
        connection.execute(sa.select(sa.func.pg_advisory_lock(_key(run))))
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", "") != "55P03":  # lock_not_available
            raise
        raise RunLocked(f"another process coordinates run {run}") from None
    connection.exec_driver_sql("SET lock_timeout = 0")
    connection.commit()


def _key(name: str) -> int:
    return int.from_bytes(blake2b(f"umbel {name}".encode(), digest_size=8).digest(), "big", signed=True)


def _configure_postgres(connection: object, _: object) -> None:
    alive = {"idle": 5, "interval": 3, "count": 3}
    _execute(connection, *(f"SET tcp_keepalives_{name} = {value}" for name, value in alive.items()))
    connection.commit()  # type: ignore[attr-defined]  # a DBAPI connection


def _configure_sqlite(durability: Durability) -> Callable[[object, object], None]:
    # NORMAL: a commit is in the WAL file when the call returns, which the death of the process cannot undo.
    synchronous = "FULL" if durability == "power" else "NORMAL"

    def configure(connection: object, _: object) -> None:
        pragmas = "journal_mode=WAL", f"synchronous={synchronous}", "busy_timeout=5000"
        _execute(connection, *(f"PRAGMA {pragma}" for pragma in pragmas))

    return configure


def _execute(connection: Any, *statements: str) -> None:
    """Executes what a new connection begins with, and closes it where one is refused: SQLAlchemy then forgets it, open."""
    try:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
    except BaseException:
        connection.close()
        raise


def cause_of(error: sa.exc.SQLAlchemyError) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())
