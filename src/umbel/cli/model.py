"""`umbel model export`: a run's model as a file of its own, which says what it is."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umbel.cli.store import open_store, row_of, store_option
from umbel.errors import UmbelError
from umbel.rounds.coordinator import Coordinator, State
from umbel.runtime.contents import Content, FileContents
from umbel.runtime.fingerprints import as_path, rules_of
from umbel.runtime.model import GlobalModel
from umbel.runtime.observers.history import History
from umbel.runtime.resume import restore
from umbel.runtime.run_registry import DEFAULT_STORE, places
from umbel.runtime.saved import describe, write_model

if TYPE_CHECKING:
    from umbel.runtime.stores.database import Database, RunRow

__all__ = ["model"]


@click.group()
def model() -> None:
    """What a run has made."""


@model.command()
@click.argument("run")
@click.option("--best", is_flag=True, help="The best version, of a run that kept one (keep_best=).")
@click.option("--round", "number", type=int, help="The version that this round has made.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file, or a folder for it.")
@store_option
def export(run: str, best: bool, number: int | None, output: Path, store: str) -> None:
    """Write the model of RUN, its newest version, to a safetensors file.

    The file has the names of the tensors and, in its metadata, their order, the run, the round, the strategy and the loss.
    Works for runs that have ended and for those that have not.
    """
    if best and number is not None:
        raise click.ClickException("--best and --round are two versions; give one of them")
    with open_store(store) as database:
        row = row_of(database, run, store)
        state, history = _as_it_stands(database, row)
        folder = _folder_of(row, store)
        version = _chosen(run, state, folder, best=best, number=number)
        content = _open(database, run, folder, version)
        strategy = str(row.fingerprint.get("strategy", "")).rpartition(".")[2]
        loss = history.loss_of(version)
        said = describe(content.schema.names, run=run, number=version, strategy=strategy, loss=loss)
        path = output / "model.safetensors" if output.is_dir() else output
        _write(path, content, said)
    shown = f", loss {loss:g}" if isinstance(loss, (int, float)) else ""
    click.echo(f"{path}: round {version} of run {run}, {len(content.schema):,} tensors{shown}")


def _as_it_stands(database: Database, row: RunRow) -> tuple[State, History]:
    """The run's last snapshot, and what its journal says of the time since."""
    from umbel.runtime.stores.database import Stored

    snapshots = database.snapshots(row.run)
    if snapshots:
        last = snapshots[-1]
        stored = Stored(last.state, last.history, last.at, last.seq, iter(database.entries(row.run, after=last.seq)))
    else:
        stored = Stored(None, History(), 0.0, 0, iter(database.entries(row.run)))
    rounds = row.fingerprint.get("num_rounds")
    restored = restore(stored, rules_of(row.run, row.fingerprint), rounds if isinstance(rounds, int) else 0)
    found: Coordinator = restored.coordinator
    return found.state, restored.history


def _folder_of(row: RunRow, store: str) -> Path:
    """Where the run's files are: in the store's folder, or with a database elsewhere in that of its server."""
    here = places(store)[1] / row.run
    there = Path(as_path(str(row.fingerprint.get("folder", ".")))) / DEFAULT_STORE / row.run
    for folder in (here, there) if "://" in store else (here,):
        if folder.is_dir():
            return folder
    raise click.ClickException(f"the files of run {row.run} are not here: its server kept them in {there.parent}")


def _chosen(run: str, state: State, folder: Path, *, best: bool, number: int | None) -> int:
    """The version that is wanted, which has a file."""
    standing = state.standing
    there = sorted(int(path.stem[6:]) for path in folder.glob("model-*.safetensors") if path.stem[6:].isdecimal())
    kept = f"it has those of rounds {', '.join(map(str, there))}" if there else "it has none so far"
    wanted = standing.best_version if best else state.version if number is None else number
    if best and wanted is None:
        raise click.ClickException(f'run {run} has kept no best version: its strategy has no keep_best="accuracy"; {kept}')
    if wanted is None or wanted not in there:
        which = "no model" if wanted is None else f"no model of round {wanted}"
        raise click.ClickException(f"run {run} has {which}; {kept}. A run keeps the newest, and with keep_best= the best")
    return wanted


def _open(database: Database, run: str, folder: Path, version: int) -> Content:
    """The content of a version; what was written, as far as its file is still as the run has written it."""
    contents, name = FileContents(folder), GlobalModel.name(version)
    written = database.sums(run).get(name)
    if written is not None and written.size == (folder / f"{name}.safetensors").stat().st_size:
        contents.sums.expect({name: written}, {})  # otherwise the run's end has put its name into it
    return contents.open(name)


def _write(path: Path, content: Content, said: dict[str, str]) -> None:
    """Writes the file whole, or not at all."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        with temporary.open("wb") as file:
            write_model(content, said, file.write)
        os.replace(temporary, path)
    except (OSError, UmbelError) as error:
        temporary.unlink(missing_ok=True)
        why = (isinstance(error, OSError) and error.strerror) or error
        raise click.ClickException(f"{path} cannot be written: {why}") from None
