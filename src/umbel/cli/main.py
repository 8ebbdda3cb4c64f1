"""`umbel runs` and `umbel resume`: what an operator asks of the runs in a folder. The other groups have their own files."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umbel.cli.certs import certs
from umbel.cli.data import data
from umbel.cli.server import server
from umbel.errors import UmbelError
from umbel.runtime.observers.table import aligned
from umbel.runtime.runs import DEFAULT_STORE, RESUME, places

if TYPE_CHECKING:
    from umbel.runtime.stores.sql import RunRow

__all__ = ["main"]

_store = click.option(
    "--store", default=DEFAULT_STORE, show_default=True, help="Folder or database URL that the server was given."
)


@click.group()
@click.version_option(package_name="umbel")
def main() -> None:
    """Federated learning: many owners of data train one model."""


main.add_command(certs)
main.add_command(data)
main.add_command(server)


@main.command()
@_store
def runs(store: str) -> None:
    """List the runs, the newest first."""
    rows = [["run", "started", "status", "strategy", "rounds", "script"]]
    for row in _rows(store):
        mine = row.fingerprint
        rows.append(
            [
                row.run,
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.created)),
                "unfinished" if row.status == "running" else row.status,
                str(mine.get("strategy", "")).rpartition(".")[2],
                str(mine.get("num_rounds", "")),
                os.path.basename(str(mine.get("script", ""))),
            ]
        )
    for line in aligned(rows):
        click.echo(line)


@main.command()
@click.argument("run")
@_store
def resume(run: str, store: str) -> None:
    """Go on with an unfinished RUN: starts its script again, as it was started then."""
    row = next((row for row in _rows(store) if row.run == run), None)
    if row is None:
        raise click.ClickException(f"there is no run {run!r} in {store}; `umbel runs` lists them")
    if row.status != "running":
        raise click.ClickException(f"run {run} has {row.status}; only an unfinished run can go on")
    script, arguments = row.fingerprint.get("script"), row.fingerprint.get("arguments")
    if not isinstance(script, str) or not os.path.isfile(script) or not isinstance(arguments, list):
        raise click.ClickException(
            f"run {run} was started by {script or 'an interactive session'}, which is not there to be started again; "
            f"start that program yourself, with {RESUME}={run} in its environment"
        )
    command = [sys.executable, script, *map(str, arguments)]
    click.echo(f"Starting {' '.join(command[1:])}", err=True)
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, RESUME: run})


def _rows(store: str) -> list[RunRow]:
    from umbel.runtime.stores.sql import Database

    url, folder = places(store)
    if url.startswith("sqlite:") and not (Path(folder) / "runs.sqlite").is_file() and "://" not in store:
        raise click.ClickException(f"no runs are kept in {store}; name the server's folder with --store")
    try:
        database = Database(url)
        try:
            return database.runs()
        finally:
            database.close()
    except UmbelError as error:
        raise click.ClickException(str(error)) from None
