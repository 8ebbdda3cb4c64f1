"""What tests of several folders share: a real PostgreSQL server, started once, where there is one."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from postgres import Postgres, find_server

# A run goes on where its script is started again, and a worker of pytest-xdist has no script: it gets that of pytest itself.
vars(sys.modules["__main__"]).setdefault("__file__", str(Path(pytest.__file__).with_name("__main__.py")))

# Started in the background of a script, Python ignores Ctrl-C, and so would all programs that tests start and stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres():
    """A running PostgreSQL server; tests that need one are skipped where none is installed."""
    programs = find_server()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here (scripts/postgres does that): runs in PostgreSQL are not tested")
    pytest.importorskip("psycopg", reason="psycopg is not installed: runs in PostgreSQL are not tested")
    server = Postgres(programs)
    yield server
    server.close()
