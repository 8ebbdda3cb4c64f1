"""Who has joined: names with their public keys, and the tokens that let new ones in. Kept in the store's database.

A token is kept as a public key, so that whoever reads the database cannot join with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from umbel.errors import SecurityError
from umbel.runtime.security.identity import new_token
from umbel.runtime.security.signatures import fingerprint
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.engine import refusal

__all__ = ["Member", "Members", "NotAdmitted"]

_tables = sa.MetaData()
_tokens = sa.Table(
    "umbel_tokens",
    _tables,
    sa.Column("token", sa.String(64), primary_key=True),  # its public key
    sa.Column("client", sa.String(128)),  # the only name that it lets in; NULL: any
    sa.Column("expires", sa.Float, nullable=False),  # unix time, s
    sa.Column("used", sa.Float),
)
_members = sa.Table(
    "umbel_members",
    _tables,
    sa.Column("key", sa.String(64), primary_key=True),  # the public one
    sa.Column("client", sa.String(128), nullable=False),
    sa.Column("joined", sa.Float, nullable=False),
    sa.Column("revoked", sa.Float),
)
_valid = _members.c.revoked.is_(None)
sa.Index("umbel_one_key_per_name", _members.c.client, unique=True, sqlite_where=_valid, postgresql_where=_valid)


class NotAdmitted(Exception):
    """Why a client may not come in; its operator reads it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A client that has joined. Times are unix times, s."""

    client: str
    fingerprint: str
    joined: float
    revoked: float | None


class Members:
    """Safe to use from several threads and processes.

    Raises `StoreUnavailable` where the database refuses for a while, `StoreError` where it cannot be had at all.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._database = Database(url)
        with self._transaction() as connection:
            for table in _tables.sorted_tables:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))

    def new_token(self, *, client: str | None, seconds: float) -> str:
        """A token for one new member, valid for so long."""
        text, public = new_token()
        row = {"token": public.hex(), "client": client, "expires": time.time() + seconds}
        with self._transaction() as connection:
            connection.execute(_tokens.insert().values(row))
        return text

    def admit(self, client: str, key: bytes, token: bytes) -> bool:
        """Lets a known key in, or enrols a new one by a token; whether it is new. Raises `NotAdmitted`."""
        with self._transaction() as connection:
            return self._admit(connection, client, key, token)

    def _admit(self, connection: sa.Connection, client: str, key: bytes, token: bytes) -> bool:
        row = connection.execute(_members.select().where(_members.c.key == key.hex())).first()
        if row is not None and row.revoked is not None:
            raise NotAdmitted(
                f"the key {fingerprint(key)} has been revoked; remove the key's file, and join with a new token "
                "(`umbel server token`)"
            )
        if row is not None and row.client != client:
            raise NotAdmitted(f"the key {fingerprint(key)} belongs to {row.client}; give that name as client_id=")
        if row is not None:
            return False
        owner = connection.execute(_members.select().where(_members.c.client == client, _valid)).first()
        if owner is not None:
            raise NotAdmitted(
                f"the name {client} belongs to another key; use the file that has it, choose another client_id, or "
                f"revoke it on the server (`umbel server revoke {client}`)"
            )
        if not token:
            raise NotAdmitted(
                f"the key {fingerprint(key)} has not joined; start the client with start_client(join_token=...), where "
                "`umbel server token` on the server's machine prints a token"
            )
        self._spend(connection, client, token)
        try:
            connection.execute(_members.insert().values(key=key.hex(), client=client, joined=time.time()))
        except sa.exc.IntegrityError:  # another process has enrolled this name, or key, in the same moment
            raise NotAdmitted(f"the name {client} has just been taken; choose another client_id") from None
        return True

    def _spend(self, connection: sa.Connection, client: str, token: bytes) -> None:
        row = connection.execute(_tokens.select().where(_tokens.c.token == token.hex())).first()
        again = "`umbel server token` on the server's machine prints a new one"
        if row is None:
            raise NotAdmitted(f"the join token is none of this server's; {again}")
        if row.used is not None:
            raise NotAdmitted(f"the join token has been used, and is good for one client; {again}")
        if row.expires < time.time():
            raise NotAdmitted(f"the join token has expired; {again}")
        if row.client is not None and row.client != client:
            raise NotAdmitted(f"the join token is for {row.client}, not for {client}; give that name as client_id=")
        spent = _tokens.update().where(_tokens.c.token == row.token, _tokens.c.used.is_(None)).values(used=time.time())
        if connection.execute(spent).rowcount != 1:  # another process was faster
            raise NotAdmitted(f"the join token has been used, and is good for one client; {again}")

    def revoke(self, client: str) -> None:
        """Takes a member's key out of use, for ever. Raises `SecurityError` where there is no such member."""
        with self._transaction() as connection:
            done = connection.execute(
                _members.update().where(_members.c.client == client, _valid).values(revoked=time.time())
            )
        if not done.rowcount:
            raise SecurityError(f"no member is called {client!r}; `umbel server members` lists them")

    def find_revoked(self) -> set[bytes]:
        """Every key that has been revoked."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_members.c.key).where(_members.c.revoked.is_not(None))).all()
        return {bytes.fromhex(row.key) for row in rows}

    def list_all(self) -> list[Member]:
        """Every member, by the time of joining."""
        with self._transaction() as connection:
            rows = connection.execute(_members.select().order_by(_members.c.joined)).all()
        return [Member(row.client, fingerprint(bytes.fromhex(row.key)), row.joined, row.revoked) for row in rows]

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._database.engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise refusal("cannot read or write the list of members", error) from error
