"""`umbel certs`: a CA of one's own, and certificates for a server and its clients."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from umbel.errors import SecurityError
from umbel.runtime.security.certificates import check_hosts, issue, make_authority

__all__ = ["certs"]

FOLDER = "umbel-certs"
_F = TypeVar("_F", bound=Callable[..., object])


def _options(days: int) -> Callable[[_F], _F]:
    def add(command: _F) -> _F:
        folder = click.option("--folder", default=FOLDER, show_default=True, type=click.Path(path_type=Path))
        lasting = click.option(
            "--days", default=days, show_default=True, type=click.IntRange(1, 36_500), help="How long it is valid."
        )
        return folder(lasting(command))

    return add


@click.group()
def certs() -> None:
    """Make certificates for TLS between the server and its clients."""


@certs.command()
@click.argument("hosts", nargs=-1)
@_options(825)
def init(hosts: Sequence[str], days: int, folder: Path) -> None:
    """Make a CA, a certificate for a server that is reached by HOSTS (names or addresses), and one for clients.

    Without HOSTS it is localhost, 127.0.0.1 and ::1.
    """
    server_names = list(hosts) or ["localhost", "127.0.0.1", "::1"]
    _do(lambda: check_hosts(server_names))  # before anything is there that a second try must not replace
    _do(lambda: make_authority(folder, days=3650))
    _do(lambda: issue(folder, "server", server_names[0], server_names, days=days, server=True))
    _do(lambda: issue(folder, "client", "client", [], days=days, server=False))
    click.echo(
        f"\nserver:  start_server(certificates=({_three(folder)}))\n"
        f"clients: start_client(root_certificates='{folder}/ca.pem')\n"
        "With require_client_certificate=True on the server, clients also give "
        f"client_certificate=('{folder}/client.pem', '{folder}/client.key').\n"
        f"Keep {folder}/ca.key to yourself: whoever has it can make more of them."
    )


@certs.command()
@click.argument("hosts", nargs=-1, required=True)
@_options(825)
def server(hosts: Sequence[str], days: int, folder: Path) -> None:
    """Make, or renew, the certificate of a server that is reached by HOSTS."""
    _do(lambda: issue(folder, "server", hosts[0], hosts, days=days, server=True))


@certs.command()
@click.argument("name")
@_options(825)
def client(name: str, days: int, folder: Path) -> None:
    """Make, or renew, a certificate for the client NAME."""
    if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", name) or name.strip(".") in ("", "ca", "server"):
        raise click.ClickException(f"{name!r} cannot name a client's files; use letters, digits and _ . @ -")
    _do(lambda: issue(folder, name, name, [], days=days, server=False))


def _three(folder: Path) -> str:
    return ", ".join(f"'{folder}/{name}'" for name in ("ca.pem", "server.pem", "server.key"))


def _do(make: Callable[[], list[Path] | None]) -> None:
    try:
        for path in make() or ():
            click.echo(path)
    except (SecurityError, ImportError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
