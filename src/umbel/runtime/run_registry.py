"""Which run is this: a new one, or one that goes on? Knows stores and fingerprints; knows no rounds.

A run that ended uncleanly goes on when the same server is started again: same script, strategy, model schema, seed and
port. `num_rounds` may grow. Otherwise a new run begins, and the difference is named. With `umbel resume`, the start that
began the run goes on with it, though script and keywords may have changed; the script's other starts are as ever.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from umbel.errors import RunLocked, RunMismatch, StoreError
from umbel.runtime.contents import FileContents
from umbel.runtime.failpoints import failpoint
from umbel.runtime.fingerprints import ATTRIBUTES, MAY_CHANGE, SECRET, Fingerprint, differences
from umbel.runtime.interactive import in_notebook
from umbel.runtime.log import logger
from umbel.runtime.security.kept_secret import FILE, load_secret
from umbel.runtime.stores.base import Keeping, Store
from umbel.runtime.stores.mark import IN_FOLDER
from umbel.runtime.stores.memory import MemoryStore

if TYPE_CHECKING:
    import sqlalchemy as sa

    from umbel.runtime.stores.database import Database, RunRow, Stored

__all__ = ["DEFAULT_STORE", "RESUME", "OpenedRun", "how_to_go_on", "make_folder", "open_run", "places"]

DEFAULT_STORE = "umbel-runs"
RESUME = "UMBEL_RESUME"  # names the run that `umbel resume` wants to go on

@dataclass(slots=True)
class OpenedRun:
    """A run whose lock this process holds. `stored` is what it goes on from; None: it has just begun.

    `where` is the store= that it was opened with; None: nothing is kept.
    """

    run: str
    store: Store
    folder: Path | None
    stored: Stored | None = None
    where: str | None = None
    _closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def finish(self, status: str) -> None:
        """Notes how the run has ended, and gives up its secret: nobody can take its noise off any more."""
        self.store.finish(status)
        if self.folder is not None:
            (self.folder / FILE).unlink(missing_ok=True)

    def close(self) -> None:
        self.store.close()
        self._closing.close()


def how_to_go_on(opened: OpenedRun | None) -> str:
    """What to do where the owner's code has raised: a question that was not answered is asked again."""
    if opened is None or opened.where is None:
        return "Nothing of this run is kept (store=None); mend the script and start it again"
    option = "" if opened.where == DEFAULT_STORE else f" --store {shlex.quote(opened.where)}"
    return f"The run is kept as it was before: mend the script, then go on with: umbel resume {opened.run}{option}"


def open_run(
    where: str | Path | None, mine: Fingerprint, *, fresh: bool, keeping: Keeping = Keeping()  # noqa: B008  # a value
) -> OpenedRun:
    """Opens the run that goes on, or begins a new one, in the folder or database `where`; None keeps nothing.

    Raises `RunLocked` and `RunMismatch` where `umbel resume` names a run that cannot go on, and `StoreError`.
    """
    if where is None:
        closing = contextlib.ExitStack()
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="umbel-")))
        return OpenedRun(_new_name(), MemoryStore(FileContents(folder)), None, _closing=closing)
    opened = _open(where, mine, fresh=fresh, keeping=keeping)
    opened.where = str(where)
    return opened


def _open(where: str | Path, mine: Fingerprint, *, fresh: bool, keeping: Keeping) -> OpenedRun:
    from umbel.runtime.stores.database import Database  # here: SQLAlchemy takes 0.35 s, and a client has no need of it

    url, folder = places(where)
    make_folder(folder)
    database = Database(url, durability=keeping.durability, patience=keeping.patience)
    try:
        return _find_or_begin(database, folder, mine, fresh=fresh, keeping=keeping)
    except BaseException:
        database.close()
        raise


def _find_or_begin(database: Database, folder: Path, mine: Fingerprint, *, fresh: bool, keeping: Keeping) -> OpenedRun:
    _check_known(database, folder, fresh=fresh)
    wanted = os.environ.get(RESUME)
    if wanted:
        opened = _find_wanted(database, folder, wanted, mine, keeping)
        if opened is not None:
            del os.environ[RESUME]  # the next start is another run's, and so may be those of child processes
            return opened
    if mine["script"] and not in_notebook():
        opened = _find_unfinished(database, folder, mine, keeping, fresh=fresh)
        if opened is not None:
            return opened
    name = _new_name()
    if SECRET in mine:  # first: a run that has said that it has one has one
        make_folder(folder / name)
        load_secret(folder / name / FILE)
    database.add(name, mine)
    failpoint("run.added")
    return _lock_run(database, folder, name, keeping)


def _check_known(database: Database, folder: Path, *, fresh: bool) -> None:
    """Raises `StoreError` where a run has a folder and is not in the database; `fresh` gives it up."""
    if database.file is None:
        return
    marks = sorted(folder.glob(f"*/{IN_FOLDER}"))  # first: a run is in the database before it has one
    known = {row.run for row in database.runs()} if marks else set()
    for mark in marks:
        run, its = mark.parent.name, mark.parent
        if run in known:
            continue
        if not fresh:
            raise StoreError(
                f"the run database {database.file} does not know the unfinished run {run}, whose files are in {its}: "
                "it is not the one that was there. Put back a copy of it (with its -wal file), or begin anew with fresh=True"
            )
        mark.unlink(missing_ok=True)
        logger.warning("Run %s, which the database has lost, is given up; its files stay in %s", run, its)


def _find_wanted(
    database: Database, folder: Path, wanted: str, mine: Fingerprint, keeping: Keeping
) -> OpenedRun | None:
    """The run of this name, if this is the start that began it; None where it is another start of the same script.

    A start is known by having no differences at all; by its number in the process otherwise.
    """
    row = next((row for row in database.runs() if row.run == wanted), None)
    if row is None:
        raise RunMismatch(f"there is no run {wanted!r} in {database.name}; `umbel runs` lists them")
    if row.status != "running":
        raise RunMismatch(f"run {wanted} has {row.status}; only an unfinished run can go on")
    found = differences(row.fingerprint, mine)
    if found and row.fingerprint.get("start", mine["start"]) != mine["start"]:
        logger.info("Run %s is left to another start of this script (%s)", wanted, "; ".join(found))
        atexit.unregister(_say_left)  # once is enough
        atexit.register(_say_left)
        return None
    changed = {name: mine[name] for name in MAY_CHANGE if row.fingerprint.get(name) is not None}
    wrong = differences(row.fingerprint | changed, mine)
    if wrong:  # its journal would not mean what it meant
        raise RunMismatch(f"run {wanted} cannot go on with other settings ({'; '.join(wrong)})")
    return _resume(database, folder, row, keeping)


def _say_left() -> None:
    if RESUME in os.environ:
        logger.warning("Run %s has not gone on: no start of this script was the one that began it", os.environ[RESUME])


def _find_unfinished(
    database: Database, folder: Path, mine: Fingerprint, keeping: Keeping, *, fresh: bool
) -> OpenedRun | None:
    """The unfinished run that this start goes on with, if there is one; `fresh` gives it up instead."""
    others = []
    rows = database.runs()
    _remove_old_secrets(folder, rows)
    for row in rows:
        if row.status != "running" or row.run == os.environ.get(RESUME):
            continue
        if row.fingerprint.get("script") != mine["script"]:
            _say_moved(row)
            continue
        found = differences(row.fingerprint, mine)
        if found:
            others.append((row.run, found))
            continue
        try:
            if fresh:
                given_up = _lock_run(database, folder, row.run, keeping)
                given_up.finish("abandoned")
                given_up.close()
                continue
            opened = _resume(database, folder, row, keeping)
        except RunLocked as error:
            logger.warning("%s; this is a new run", error)
            continue
        logger.info("Resuming run %s; start afresh with fresh=True", row.run)
        return opened
    if others and not fresh:
        run, found = others[0]
        logger.info("Run %s is unfinished, but this is another one (%s)", run, "; ".join(found))
        logger.info("Go on with it by: umbel resume %s", run)
    return None


def _remove_old_secrets(folder: Path, rows: Sequence[RunRow]) -> None:
    """Removes the secrets of ended runs that are still there: their servers died when nothing else was left to do."""
    ended = {row.run for row in rows if row.status != "running"}
    for secret in folder.glob(f"*/{FILE}"):
        if secret.parent.name in ended:
            secret.unlink(missing_ok=True)


def _say_moved(row: RunRow) -> None:
    """Says it where an unfinished run has lost its script, which may be this one under its old name or in its old folder."""
    script = str(row.fingerprint.get("script") or "")
    if script and not os.path.exists(script):
        logger.warning(
            "Run %s is unfinished, and the script that began it is gone: %s. This is a new run; if it is the same program, "
            "renamed or moved, go on with that run by starting it with %s=%s in its environment",
            row.run,
            script,
            RESUME,
            row.run,
        )


def places(where: str | Path) -> tuple[str | sa.URL, Path]:
    """The database's URL, and the folder for contents: absolute, since users' code may change the working folder.

    Raises `StoreError` where there is no working folder any more.
    """
    elsewhere = "://" in str(where)
    try:
        folder = Path(DEFAULT_STORE if elsewhere else where).absolute()
    except FileNotFoundError:
        raise StoreError("the working folder has been removed; start in another, or give store= an absolute path") from None
    if elsewhere:
        return str(where), folder
    import sqlalchemy as sa  # here: as above

    return sa.URL.create("sqlite", database=str(folder / "runs.sqlite")), folder  # a path may have a "?"


def make_folder(folder: Path) -> None:
    """Makes it where it is not there. Raises `StoreError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the store's folder {str(folder)[:200]!r} cannot be made: {error.strerror}") from None


def _lock_run(database: Database, folder: Path, run: str, keeping: Keeping) -> OpenedRun:
    from umbel.runtime.stores.sql import SqlStore

    with contextlib.ExitStack() as closing:
        make_folder(folder / run)
        place = folder / run / "lock"
        try:
            lock = closing.enter_context(place.open("w"))
        except OSError as error:  # another user's run, a disk that can only be read
            raise StoreError(f"the run's lock {place} cannot be opened for writing: {error.strerror}") from error
        _lock_file(lock, run)
        contents = FileContents(
            folder / run, power=keeping.power, digests=keeping.audit, patience=keeping.patience
        )
        store = SqlStore(database, run, contents, keeping)
        return OpenedRun(run, store, folder / run, _closing=closing.pop_all())


def _resume(database: Database, folder: Path, row: RunRow, keeping: Keeping) -> OpenedRun:
    from umbel.runtime.stores.sql import SqlStore

    if not keeping.audit and next(database.audit(row.run), None) is not None:
        logger.info("Run %s has been audited so far, and stays so", row.run)  # or its audit would look as if it were cut off
        keeping = replace(keeping, audit=True)
    database.check_pages()
    there = (folder / row.run).is_dir()
    opened = _lock_run(database, folder, row.run, keeping)
    try:
        assert isinstance(opened.store, SqlStore)
        opened.stored = opened.store.load()
        if opened.store.begun and not there:
            (folder / row.run / "lock").unlink(missing_ok=True)
            (folder / row.run).rmdir()
            raise StoreError(
                f"run {row.run} has no folder {(folder / row.run).absolute()}, in which its model was. It was begun in "
                f"{row.fingerprint.get('folder')}: put the folder back and start again, or begin anew with fresh=True"
            )
        if SECRET in row.fingerprint and not (folder / row.run / FILE).exists():
            raise StoreError(
                f"the secret of run {row.run} is gone, {(folder / row.run / FILE).absolute()}, and without it the noise of "
                "the run cannot be made again: put the file back and start again, or begin anew with fresh=True"
            )
    except BaseException:
        opened.close()
        raise
    _say_attributes(row)
    failpoint("resume.loaded")
    return opened


def _say_attributes(row: RunRow) -> None:
    names = row.fingerprint.get(ATTRIBUTES)
    if isinstance(names, list):
        logger.warning(
            "%s had changed attributes of its own in run %s (%s). A resumed run does not bring them back: they are as the "
            "script has made them now. Save what it must remember to a file, and read it when the strategy is made",
            str(row.fingerprint.get("strategy")).rpartition(".")[2],
            row.run,
            ", ".join(map(str, names)),
        )


def _lock_file(file: IO[str], run: str) -> None:
    try:
        import fcntl
    except ImportError:  # not on this platform: two servers on one run are the operator's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RunLocked(f"another process coordinates run {run}") from None


def _new_name() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
