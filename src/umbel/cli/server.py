"""`umbel server`: who may join a server with `require_identity=True`, and who no longer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from umbel.errors import UmbelError
from umbel.runtime.observers.table import align
from umbel.runtime.run_registry import DEFAULT_STORE, make_folder, places
from umbel.runtime.transports.http.protocol import check_name

if TYPE_CHECKING:
    from umbel.runtime.security.members import Members

__all__ = ["server"]

_MOST_HOURS = 87_600  # ten years
_store = click.option(
    "--store", default=DEFAULT_STORE, show_default=True, help="Folder or database URL that the server is given."
)


@click.group()
def server() -> None:
    """Say who may join a server with require_identity=True."""


@server.command()
@click.option("--client", help="Let in this client_id only.")
@click.option("--hours", default=24.0, show_default=True, help="How long the token is valid.")
@_store
def token(client: str | None, hours: float, store: str) -> None:
    """Print a token with which one new client can join."""
    if not 0 < hours <= _MOST_HOURS:
        raise click.BadParameter(f"{hours:g} is not more than 0 and at most {_MOST_HOURS:,}", param_hint="--hours")
    if client is not None:
        try:
            check_name(client)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--client") from None
    with _members(store, create=True) as members:
        click.echo(members.new_token(client=client, seconds=hours * 3600))
    click.echo(
        f"Good for one client, within {hours:g} h: start_client(join_token=...), or UMBEL_JOIN_TOKEN in its environment.",
        err=True,
    )


@server.command("members")
@_store
def list_members(store: str) -> None:
    """List who has joined."""
    rows = [["client", "key", "joined", "revoked"]]
    with _members(store) as members:
        for member in members.list_all():
            rows.append([member.client, member.fingerprint, _day(member.joined), _day(member.revoked)])
    for line in align(rows):
        click.echo(line)


@server.command()
@click.argument("client")
@_store
def revoke(client: str, store: str) -> None:
    """Take the key of CLIENT out of use, for ever; a running server lets it go within two seconds."""
    with _members(store) as members:
        members.revoke(client)
    click.echo(f"The key of {client} is revoked. With a new key and a new token, a client of this name can join again.")


@contextmanager
def _members(store: str, *, create: bool = False) -> Iterator[Members]:
    try:
        from umbel.runtime.security.members import Members

        url, folder = places(store)
        if create:
            make_folder(folder)
        elif "://" not in store and not (folder / "runs.sqlite").is_file():
            raise click.ClickException(f"nobody has joined in {store}; name the server's folder with --store")
        members = Members(url)
        try:
            yield members
        finally:
            members.close()
    except (UmbelError, ImportError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _day(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
