"""`umbel runs` and `umbel resume`: what an operator asks of the runs in a folder. The other groups have their own files."""

from __future__ import annotations

import os
import sys
import time

import click

from umbel.cli.certs import certs
from umbel.cli.check import audit, replay_command
from umbel.cli.data import data
from umbel.cli.model import model
from umbel.cli.server import server
from umbel.cli.store import open_store, row_of, store_option
from umbel.dialogue import as_text
from umbel.runtime.fingerprints import as_path
from umbel.runtime.observers.table import align
from umbel.runtime.run_registry import RESUME

__all__ = ["main"]


@click.group()
@click.version_option(package_name="umbel")
def main() -> None:
    """Federated learning: many owners of data train one model."""


main.add_command(audit)
main.add_command(certs)
main.add_command(data)
main.add_command(model)
main.add_command(replay_command)
main.add_command(server)


@main.command()
@store_option
def runs(store: str) -> None:
    """List the runs, the newest first."""
    rows = [["run", "started", "status", "strategy", "rounds", "script"]]
    with open_store(store) as database:
        listed = database.runs()
    for row in listed:
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
    for line in align(rows):
        click.echo(line)


@main.command()
@click.argument("run")
@store_option
def resume(run: str, store: str) -> None:
    """Go on with an unfinished RUN: starts its script again, as and where it was started then."""
    with open_store(store) as database:
        row = row_of(database, run, store)
    if row.status != "running":
        raise click.ClickException(f"run {run} has {row.status}; only an unfinished run can go on")
    mine = row.fingerprint
    script, folder = as_path(str(mine.get("script", ""))), as_path(str(mine.get("folder", ".")))
    arguments = mine.get("arguments")  # what an older Umbel kept instead of the command
    command = mine.get("command", [script, *arguments] if isinstance(arguments, list) else None)
    if not os.path.isfile(script) or not os.path.isdir(folder) or not isinstance(command, list):
        raise click.ClickException(
            f"run {run} was started by {script or 'an interactive session'} in {folder}, which is not there to be started "
            f"again; start that program yourself, with {RESUME}={run} in its environment"
        )
    command = [sys.executable, *(as_path(str(part)) for part in command)]
    click.echo(as_text(f"Starting {' '.join(command[1:])} in {folder}"), err=True)
    os.chdir(folder)
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, RESUME: run})

