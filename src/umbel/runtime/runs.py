"""Which run is this: a new one, or one that goes on? Knows stores and fingerprints; knows no rounds.

A run that ended uncleanly goes on when the same server is started again: same script, strategy, model schema, seed and
port. `num_rounds` may grow. Otherwise a new run begins, and the difference is named. With `umbel resume`, the start that
began the run goes on with it, though script and keywords may have changed; the script's other starts are as ever.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import re
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from umbel.errors import RunLocked, RunMismatch, StoreError
from umbel.exchange import as_text
from umbel.pace import Pace
from umbel.rounds.coordinator import Rules
from umbel.rounds.exchanges import ROUND, Exchange
from umbel.runtime.contents import FileContents
from umbel.runtime.failpoints import failpoint
from umbel.runtime.interactive import in_notebook
from umbel.runtime.log import logger
from umbel.runtime.stores.base import Keeping, Store
from umbel.runtime.stores.mark import IN_FOLDER
from umbel.runtime.stores.memory import MemoryStore
from umbel.strategies.base import Strategy, round_of

if TYPE_CHECKING:
    import sqlalchemy as sa

    from umbel.runtime.stores.database import Database, RunRow, Stored

__all__ = [
    "ATTRIBUTES",
    "DEFAULT_STORE",
    "RESUME",
    "OpenedRun",
    "as_path",
    "fingerprint",
    "how_to_go_on",
    "make_folder",
    "open_run",
    "places",
    "rules_of",
]

DEFAULT_STORE = "umbel-runs"
RESUME = "UMBEL_RESUME"  # names the run that `umbel resume` wants to go on
ATTRIBUTES = "changed attributes"  # in a fingerprint: names of those that the strategy has changed while the run was on

_NO_MATTER = {"command", "folder", "start"}  # in a fingerprint: how, where and as which of its script the run was begun
_MAY_CHANGE = {"script", "script hash", "strategy keywords", "port", "num_rounds"}  # in a run that is resumed by name
_starts = itertools.count(1)  # of this process, so far

Fingerprint = dict[str, object]


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

    def close(self) -> None:
        self.store.close()
        self._closing.close()


def fingerprint(strategy: Strategy, pace: Pace, *, seed: int, num_rounds: int, port: int | None = None) -> Fingerprint:
    """What makes two starts the same run, and how to start it again. Of the initial parameters, their schema counts."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    initial = getattr(strategy, "initial_parameters", None)
    plain = {name: value for name, value in vars(strategy).items() if isinstance(value, (bool, int, float, str))}
    made = {
        "script": os.path.abspath(script) if script else "",
        "script hash": _hash(script) if script and os.path.isfile(script) else "",
        "strategy": f"{type(strategy).__module__}.{type(strategy).__qualname__}",
        "strategy keywords": plain,
        "model schema": None if initial is None else [[spec.dtype, list(spec.shape)] for spec in initial.stream()[0].specs],
        "rules": _written(strategy.min_available_clients, pace, round_of(strategy)),
        "seed": seed,
        "port": port,
        "num_rounds": num_rounds,
        "command": sys.orig_argv[1:],
        "folder": _working_folder(),
        "start": next(_starts),
    }
    return {name: _as_text(value) for name, value in made.items()}


def as_path(text: str) -> str:
    """The path that a fingerprint shows: what is not Unicode in it, which stands there escaped, as the system has it.

    >>> as_path("caf\\\\udce9/train.py") == os.fsdecode(b"caf\\xe9/train.py")
    True
    """
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), text)


def _as_text(value: object) -> object:
    """Texts as a database takes them: what is not Unicode, in names of files, is escaped."""
    match value:
        case str():
            return as_text(value)
        case list():
            return [_as_text(each) for each in value]
        case dict():
            return {name: _as_text(each) for name, each in value.items()}
        case _:
            return value


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it has been removed
        return ""


def how_to_go_on(opened: OpenedRun | None) -> str:
    """What to do where the owner's code has raised: a question that was not answered is asked again."""
    if opened is None or opened.where is None:
        return "Nothing of this run is kept (store=None); mend the script and start it again"
    option = "" if opened.where == DEFAULT_STORE else f" --store {shlex.quote(opened.where)}"
    return f"The run is kept as it was before: mend the script, then go on with: umbel resume {opened.run}{option}"


def _written(min_available: int, pace: Pace, exchanges: tuple[Exchange, ...]) -> dict[str, object]:
    """Rules as values; those of a classic round as ever."""
    classic = {"min_available": min_available, "pace": asdict(pace)}
    return classic if exchanges == ROUND else {**classic, "exchanges": msgspec.to_builtins(exchanges)}


def rules_of(run: str, stored: Mapping[str, object]) -> Rules:
    """The rules that a run was made under. Raises `RunMismatch` for rules that this Umbel does not know."""
    rules = stored.get("rules")
    if isinstance(rules, dict):
        with contextlib.suppress(TypeError, ValueError, KeyError):
            exchanges = msgspec.convert(rules["exchanges"], tuple[Exchange, ...]) if "exchanges" in rules else ROUND
            return Rules(run=run, min_available=int(rules["min_available"]), pace=Pace(**rules["pace"]), exchanges=exchanges)
    raise RunMismatch(f"run {run} was made under rules that this Umbel does not know: {rules}; use the Umbel that wrote it")


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
        return _opened(database, folder, mine, fresh=fresh, keeping=keeping)
    except BaseException:
        database.close()
        raise


def _opened(database: Database, folder: Path, mine: Fingerprint, *, fresh: bool, keeping: Keeping) -> OpenedRun:
    _check_known(database, folder, fresh=fresh)
    wanted = os.environ.get(RESUME)
    if wanted:
        opened = _wanted(database, folder, wanted, mine, keeping)
        if opened is not None:
            del os.environ[RESUME]  # the next start is another run's, and so may be those of child processes
            return opened
    if mine["script"] and not in_notebook():
        opened = _continued(database, folder, mine, keeping, fresh=fresh)
        if opened is not None:
            return opened
    name = _new_name()
    database.add(name, mine)
    failpoint("run.added")
    return _locked(database, folder, name, keeping)


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


def _wanted(
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
    differences = _differences(row.fingerprint, mine)
    if differences and row.fingerprint.get("start", mine["start"]) != mine["start"]:
        logger.info("Run %s is left to another start of this script (%s)", wanted, "; ".join(differences))
        atexit.unregister(_say_left)  # once is enough
        atexit.register(_say_left)
        return None
    changed = {name: mine[name] for name in _MAY_CHANGE if row.fingerprint.get(name) is not None}
    wrong = _differences(row.fingerprint | changed, mine)
    if wrong:  # its journal would not mean what it meant
        raise RunMismatch(f"run {wanted} cannot go on with other settings ({'; '.join(wrong)})")
    return _resumed(database, folder, row, keeping)


def _say_left() -> None:
    if RESUME in os.environ:
        logger.warning("Run %s has not gone on: no start of this script was the one that began it", os.environ[RESUME])


def _continued(
    database: Database, folder: Path, mine: Fingerprint, keeping: Keeping, *, fresh: bool
) -> OpenedRun | None:
    """The unfinished run that this start goes on with, if there is one; `fresh` gives it up instead."""
    others = []
    for row in database.runs():
        if row.status != "running" or row.run == os.environ.get(RESUME):
            continue
        if row.fingerprint.get("script") != mine["script"]:
            _say_moved(row)
            continue
        differences = _differences(row.fingerprint, mine)
        if differences:
            others.append((row.run, differences))
            continue
        try:
            if fresh:
                given_up = _locked(database, folder, row.run, keeping)
                given_up.store.finish("abandoned")
                given_up.close()
                continue
            opened = _resumed(database, folder, row, keeping)
        except RunLocked as error:
            logger.warning("%s; this is a new run", error)
            continue
        logger.info("Resuming run %s; start afresh with fresh=True", row.run)
        return opened
    if others and not fresh:
        run, differences = others[0]
        logger.info("Run %s is unfinished, but this is another one (%s)", run, "; ".join(differences))
        logger.info("Go on with it by: umbel resume %s", run)
    return None


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


def _locked(database: Database, folder: Path, run: str, keeping: Keeping) -> OpenedRun:
    from umbel.runtime.stores.sql import SqlStore

    with contextlib.ExitStack() as closing:
        make_folder(folder / run)
        place = folder / run / "lock"
        try:
            lock = closing.enter_context(place.open("w"))
        except OSError as error:  # another user's run, a disk that can only be read
            raise StoreError(f"the run's lock {place} cannot be opened for writing: {error.strerror}") from error
        _lock(lock, run)
        contents = FileContents(
            folder / run, power=keeping.power, digests=keeping.audit, patience=keeping.patience
        )
        store = SqlStore(database, run, contents, keeping)
        return OpenedRun(run, store, folder / run, _closing=closing.pop_all())


def _resumed(database: Database, folder: Path, row: RunRow, keeping: Keeping) -> OpenedRun:
    from umbel.runtime.stores.sql import SqlStore

    if not keeping.audit and next(database.audit(row.run), None) is not None:
        logger.info("Run %s has been audited so far, and stays so", row.run)  # or its audit would look as if it were cut off
        keeping = replace(keeping, audit=True)
    database.check_pages()
    there = (folder / row.run).is_dir()
    opened = _locked(database, folder, row.run, keeping)
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
        if name in _NO_MATTER or before == value:
            continue
        if name == "num_rounds":
            if isinstance(before, int) and isinstance(value, int) and value >= before:
                continue
            found.append(f"num_rounds has shrunk from {before} to {value}")
        elif name == "rules":
            theirs, ours = _rules(stored), _rules(mine)
            if theirs != ours:
                found.append(f"rules: {theirs} then, {ours} now")
        elif name == "script hash":
            found.append("the script has changed")
        elif name == "strategy keywords" and isinstance(before, dict) and isinstance(value, dict):
            changed = [k for k in {**before, **value} if before.get(k) != value.get(k)]
            found += [f"{key}: {before.get(key)!r} then, {value.get(key)!r} now" for key in sorted(changed)]
        else:
            found.append(f"{name}: {before!r} then, {value!r} now")
    return found


def _rules(stored: Fingerprint) -> str:
    """Rules as they are said; what an older Umbel did not know has its default."""
    try:
        rules = rules_of("", stored)
    except RunMismatch:
        return str(stored.get("rules"))
    exchanges = " → ".join(exchange.name for exchange in rules.exchanges)
    return f"{rules.min_available} clients, {rules.pace}{'' if len(rules.exchanges) == len(ROUND) else f', {exchanges}'}"


def _hash(path: str) -> str:
    return blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def _new_name() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
