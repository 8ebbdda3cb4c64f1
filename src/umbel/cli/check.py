"""`umbel replay` and `umbel audit verify`: what anyone can check of a run from what was kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umbel.cli.store import open_store, row_of, store_option
from umbel.errors import UmbelError
from umbel.rounds.coordinator import Coordinator, State
from umbel.rounds.messages import Publish, Replied, Reported
from umbel.runtime.fingerprints import rules_of
from umbel.runtime.model import path_of
from umbel.runtime.observers.history import History
from umbel.runtime.replay import Replayed, replay
from umbel.runtime.run_registry import places
from umbel.runtime.stores.audit import Line, digest_of_file, verify
from umbel.runtime.stores.codec import encode

if TYPE_CHECKING:
    from umbel.runtime.stores.database import Database, RunRow, Stored

__all__ = ["audit", "replay_command"]


@click.command("replay")
@click.argument("run")
@click.option("--round", "number", type=int, help="Print what happened in this round, entry by entry.")
@store_option
def replay_command(run: str, number: int | None, store: str) -> None:
    """Feed the journal of RUN through the coordinator again, and compare each command with what it was.

    Runs no code of the owner's or of the clients'. Stops at the first difference, with exit code 1.
    """
    with open_store(store) as database:
        try:
            _replay(database, row_of(database, run, store), number)
        except UmbelError as error:
            raise click.ClickException(str(error)) from None


def _replay(database: Database, row: RunRow, number: int | None) -> None:
    snapshots = database.snapshots(row.run)
    entries = database.entries(row.run)
    if not entries:
        raise click.ClickException(
            f"run {row.run} has no journal: it has not begun, or it is a simulation, which keeps rounds"
        )
    rounds = row.fingerprint.get("num_rounds")
    begin, history = State(num_rounds=rounds if isinstance(rounds, int) else 0), History()
    base = next((s for s in snapshots if s.seq == entries[0].seq - 1), None)
    if base is not None and base.state is not None:
        begin, history = base.state, base.history
        click.echo(f"The journal was trimmed: it begins after round {begin.completed}, with entry {entries[0].seq}")
    elif entries[0].seq > 1:
        raise click.ClickException(f"the journal of run {row.run} begins with entry {entries[0].seq}, without a snapshot")
    waiting = {s.seq: s for s in snapshots if s.seq >= entries[0].seq}
    coordinator = Coordinator(rules_of(row.run, row.fingerprint), begin)
    unrecorded = 0
    for entry in replay(coordinator, entries):
        unrecorded += not entry.recorded
        for command in entry.commands:
            if isinstance(command, Publish):
                history.observe(command.event)
        if coordinator.state.round == number:
            for line in _shown(entry):
                click.echo(line)
        if entry.seq in waiting:
            _compare(waiting[entry.seq], coordinator, history)
    s = coordinator.state
    compared = f"{len(entries) - unrecorded:,} entries" + (f" ({unrecorded:,} more have no record)" if unrecorded else "")
    click.echo(f"{compared} and {len(waiting)} snapshots: every command as it was; round {s.round}, phase {s.phase}")


def _compare(kept: Stored, coordinator: Coordinator, history: History) -> None:
    if encode(kept.state) != encode(coordinator.state):
        raise click.ClickException(f"after entry {kept.seq} the state is not the one in the snapshot")
    if kept.history.to_bytes() != history.to_bytes():
        raise click.ClickException(f"after entry {kept.seq} the History is not the one in the snapshot")


def _shown(entry: Replayed) -> Iterator[str]:
    yield f"{entry.seq:>6}  {entry.at:10.3f} s  {entry.event!r}"
    for command in entry.commands:
        yield f"{'':>20}-> {command!r}"


@click.group()
def audit() -> None:
    """The record of who sent what, where the server was started with audit=True."""


@audit.command("verify")
@click.argument("run")
@click.option("--head", help="The last hash, as the server said it at the end: shows whether lines were cut off.")
@store_option
def audit_verify(run: str, head: str | None, store: str) -> None:
    """Check that the audit of RUN is whole, that the journal agrees with it, and that the model is the one that was made."""
    with open_store(store) as database:
        row = row_of(database, run, store)
        lines = list(database.audit(row.run))
        if not lines:
            raise click.ClickException(f"run {run} has no audit; start_server(audit=True) keeps one")
        try:
            number, last = verify(row.run, lines)
            _agrees(row, lines, database)
        except UmbelError as error:
            raise click.ClickException(str(error)) from None
    if head is not None and last.hex() != head.lower():
        raise click.ClickException(f"the last hash is {last.hex()}, not {head}: lines are missing at the end")
    checked = _model(lines, places(store)[1] / row.run)
    click.echo(f"{number:,} lines, unbroken; the last hash is {last.hex()}")
    click.echo(checked)


@audit.command("show")
@click.argument("run")
@store_option
def audit_show(run: str, store: str) -> None:
    """Print the audit of RUN, a line each: time, client, task, verdict, digest of what was sent, reason."""
    with open_store(store) as database:
        row = row_of(database, run, store)
        for line in database.audit(row.run):
            sent = "" if line.content is None else line.content.hex()[:16]
            words = [
                f"{line.number:>6}",
                f"{line.time:.3f}",
                line.client or "-",
                line.task or "-",
                line.verdict,
                sent,
                line.why,
            ]
            click.echo("  ".join(words).rstrip())


def _agrees(row: RunRow, lines: list[Line], database: Database) -> None:
    """Raises `ClickException` where the journal, as far as it goes back, has other answers than the audit."""
    entries = database.entries(row.run)
    if not entries:
        return
    first = entries[0].seq
    journaled: list[tuple[int, str]] = []
    for entry in entries:
        match entry.event:
            case Replied(task=task):
                journaled.append((entry.seq, task))
            case Reported(replies=replies):
                journaled += [(entry.seq, task) for task, _ in replies]
            case _:
                pass
    begun = min(line.seq for line in lines)
    audited = [(line.seq, line.task) for line in lines if line.reply is not None and line.seq >= first]
    expected = [entry for entry in journaled if entry[0] >= begun]
    if audited != expected:
        odd = next(iter(set(audited) ^ set(expected)), audited[-1] if audited else expected[-1])
        raise click.ClickException(f"the audit and the journal disagree at entry {odd[0]}, about {odd[1]}")


def _model(lines: list[Line], folder: Path) -> str:
    versions = [line for line in lines if line.verdict == "version" and line.content is not None]
    if not versions:
        return "No version of the model was made while the audit was kept"
    newest = versions[-1]
    path = path_of(folder, int(newest.why))
    if not path.exists():
        return f"Version {newest.why} of the model is not in {folder}: its digest was not compared"
    if digest_of_file(path) != newest.content:
        raise click.ClickException(f"{path} is not the version {newest.why} that was made: its digest is another")
    return f"{path} is the version that was made"
