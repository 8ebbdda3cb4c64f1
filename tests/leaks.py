"""Where a secret may lie about that should not: how it may be spelt, and what a database has."""

from __future__ import annotations

import base64
import json

import sqlalchemy as sa

__all__ = ["rows_of", "spellings"]


def spellings(secret):
    """A secret as it might lie about: raw, as hex, as base64 from each of its three places in a longer text."""
    for raw in (secret, secret[::-1]):
        yield raw
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        for at in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(bytes(at) + raw)[-(-at * 4 // 3) + 1 : -4]
    yield repr(secret).encode()[2:-1]  # as a log or a row would show it
    yield json.dumps([*secret]).encode()[1:-1]


def rows_of(url):
    """Everything that a database has, as bytes."""
    if not url.startswith("postgresql"):
        return b""  # SQLite's are files in the run's folder
    engine = sa.create_engine(url)
    found = []
    with engine.connect() as connection:
        tables = sa.MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            for row in connection.execute(table.select()):
                found += [bytes(v) if isinstance(v, (bytes, memoryview)) else str(v).encode() for v in row]
    engine.dispose()
    return b"\0".join(found)
