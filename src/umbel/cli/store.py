"""What every command about runs needs: the option that names the store, the database behind it, and one run of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umbel.errors import UmbelError
from umbel.runtime.run_registry import DEFAULT_STORE, places

if TYPE_CHECKING:
    from umbel.runtime.stores.database import Database, RunRow

__all__ = ["open_store", "row_of", "store_option"]

store_option = click.option(
    "--store", default=DEFAULT_STORE, show_default=True, help="Folder or database URL that the server was given."
)


@contextlib.contextmanager
def open_store(store: str) -> Iterator[Database]:
    """The database of a store, closed at the end; what is wrong with it becomes the command's error."""
    from umbel.runtime.stores.database import Database

    url, folder = places(store)
    if "://" not in store and not (Path(folder) / "runs.sqlite").is_file():
        raise click.ClickException(f"no runs are kept in {store}; name the server's folder with --store")
    try:
        database = Database(url)
    except UmbelError as error:
        raise click.ClickException(str(error)) from None
    try:
        yield database
    except UmbelError as error:
        raise click.ClickException(str(error)) from None
    finally:
        database.close()


def row_of(database: Database, run: str, store: str) -> RunRow:
    """The run of this name."""
    row = next((row for row in database.runs() if row.run == run), None)
    if row is None:
        remedy = "`umbel runs` lists them, and --store= says where they are kept"
        raise click.ClickException(f"there is no run {run!r} in {store}; {remedy}")
    return row
