"""Which run is this: a new one, or one that goes on? Knows stores and fingerprints; knows no rounds.

A run that ended uncleanly goes on when the same server is started again: same script, strategy, model schema, seed and
port. `num_rounds` may grow. Otherwise a new run begins, and the difference is named.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING

from umbel.errors import RunLocked, RunMismatch
from umbel.pace import Pace
from umbel.runtime.contents import FileContents
from umbel.runtime.interactive import in_notebook
from umbel.runtime.log import logger
from umbel.runtime.stores.base import Store
from umbel.runtime.stores.memory import MemoryStore
from umbel.strategies.base import Strategy

if TYPE_CHECKING:
    from umbel.runtime.stores.sql import Database, Stored

__all__ = ["DEFAULT_STORE", "RESUME", "OpenedRun", "fingerprint", "open_run", "places"]

DEFAULT_STORE = "umbel-runs"
RESUME = "UMBEL_RESUME"  # names the run that `umbel resume` wants to go on

Fingerprint = dict[str, object]


@dataclass(slots=True)
class OpenedRun:
    """A run whose lock this process holds. `stored` is what it goes on from; None: it has just begun."""

    run: str
    store: Store
    folder: Path | None
    stored: Stored | None = None
    _closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def close(self) -> None:
        self.store.close()
        self.unlock()

    def unlock(self) -> None:
        self._closing.close()


def fingerprint(strategy: Strategy, pace: Pace, *, seed: int, num_rounds: int, port: int | None = None) -> Fingerprint:
    """What makes two starts the same run. Values of the initial parameters do not, their schema does."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    initial = getattr(strategy, "initial_parameters", None)
    plain = {name: value for name, value in vars(strategy).items() if isinstance(value, (bool, int, float, str))}
    return {
        "script": os.path.abspath(script) if script else "",
        "script hash": _hash(script) if script and os.path.isfile(script) else "",
        "strategy": f"{type(strategy).__module__}.{type(strategy).__qualname__}",
        "strategy keywords": plain,
        "model schema": None if initial is None else [[spec.dtype, list(spec.shape)] for spec in initial.stream()[0].specs],
        "rules": f"{strategy.min_available_clients} clients, {pace}",
        "seed": seed,
        "port": port,
        "num_rounds": num_rounds,
        "arguments": sys.argv[1:],
    }


def open_run(where: str | Path | None, mine: Fingerprint, *, fresh: bool) -> OpenedRun:
    """Opens the run that goes on, or begins a new one, in the folder or database `where`; None keeps nothing.

    Raises `RunLocked` and `RunMismatch` where `umbel resume` names a run that cannot go on, and `StoreError`.
    """
    if where is None:
        closing = contextlib.ExitStack()
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="umbel-")))
        return OpenedRun(_new_name(), MemoryStore(FileContents(folder)), None, _closing=closing)
    url, folder = places(where)
    from umbel.runtime.stores.sql import Database  # here: SQLAlchemy takes 0.35 s, and a client has no need of it

    folder.mkdir(parents=True, exist_ok=True)
    database = Database(url)
    wanted = os.environ.get(RESUME)
    if wanted:
        row = next((row for row in database.runs() if row.run == wanted), None)
        if row is None:
            raise RunMismatch(f"there is no run {wanted!r} in {where}; `umbel runs` lists them")
        if row.fingerprint.get("rules") != mine["rules"]:  # its journal would not mean what it meant
            raise RunMismatch(f"run {wanted} was made under the rules {row.fingerprint.get('rules')}, not {mine['rules']}")
        return _resumed(database, folder, row.run)
    if mine["script"] and not in_notebook():
        opened = _continued(database, folder, mine, fresh=fresh)
        if opened is not None:
            return opened
    name = _new_name()
    database.add(name, mine)
    return _locked(database, folder, name)


def _continued(database: Database, folder: Path, mine: Fingerprint, *, fresh: bool) -> OpenedRun | None:
    """The unfinished run that this start goes on with, if there is one; `fresh` gives it up instead."""
    others = []
    for row in database.runs():
        if row.status != "running" or row.fingerprint.get("script") != mine["script"]:
            continue
        differences = _differences(row.fingerprint, mine)
        if differences:
            others.append((row.run, differences))
            continue
        with contextlib.suppress(RunLocked):  # another server is at it
            opened = _resumed(database, folder, row.run)
            if not fresh:
                logger.info("Resuming run %s; start afresh with start_server(fresh=True)", row.run)
                return opened
            opened.store.finish("abandoned")
            opened.unlock()
    if others and not fresh:
        run, differences = others[0]
        logger.info("Run %s is unfinished, but this is another one (%s)", run, "; ".join(differences))
        logger.info("Go on with it by: umbel resume %s", run)
    return None


def places(where: str | Path) -> tuple[str, Path]:
    """The database's URL, and the folder for contents."""
    if "://" in str(where):
        return str(where), Path(DEFAULT_STORE)
    folder = Path(where)
    return f"sqlite:///{folder.absolute() / 'runs.sqlite'}", folder


def _locked(database: Database, folder: Path, run: str) -> OpenedRun:
    from umbel.runtime.stores.sql import SqlStore

    closing = contextlib.ExitStack()
    (folder / run).mkdir(parents=True, exist_ok=True)
    lock = closing.enter_context((folder / run / "lock").open("w"))
    _lock(lock, run)
    return OpenedRun(run, SqlStore(database, run, FileContents(folder / run)), folder / run, _closing=closing)


def _resumed(database: Database, folder: Path, run: str) -> OpenedRun:
    from umbel.runtime.stores.sql import SqlStore

    opened = _locked(database, folder, run)
    assert isinstance(opened.store, SqlStore)
    opened.stored = opened.store.load()
    return opened


def _lock(file: IO[str], run: str) -> None:
    try:
        import fcntl
    except ImportError:  # not on this platform: two servers on one run are the operator's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RunLocked(f"another process coordinates run {run}") from None


def _differences(stored: Fingerprint, mine: Fingerprint) -> list[str]:
    found = []
    for name, value in mine.items():
        before = stored.get(name)
        if name == "arguments" or before == value:
            continue
        if name == "num_rounds":
            if isinstance(before, int) and isinstance(value, int) and value >= before:
                continue
            found.append(f"num_rounds has shrunk from {before} to {value}")
        elif name == "script hash":
            found.append("the script has changed")
        elif name == "strategy keywords" and isinstance(before, dict) and isinstance(value, dict):
            changed = [k for k in {**before, **value} if before.get(k) != value.get(k)]
            found += [f"{key}: {before.get(key)!r} then, {value.get(key)!r} now" for key in sorted(changed)]
        else:
            found.append(f"{name}: {before!r} then, {value!r} now")
    return found


def _hash(path: str) -> str:
    return blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def _new_name() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
