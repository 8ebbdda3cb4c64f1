"""`umbel data`: look at a data set as a federation would divide it, and write the parts to disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umbel.errors import DataError
from umbel.runtime.observers.table import align

if TYPE_CHECKING:
    from umbel.datasets import FederatedDataset

__all__ = ["data"]

_LABELS = 12  # with more, a table has a column of how many, instead of one per label


@click.group()
def data() -> None:
    """Divide data among clients: look at the parts, write them to disk, fetch data sets."""


def _division(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments that say what is divided, and how, in place of a `FederatedDataset` and a split."""

    @data.command(name=command.__name__)
    @click.argument("dataset")
    @click.option("-n", "--num-partitions", type=int, help="How many parts.  [default: 10, where the partitioner asks]")
    @click.option("-p", "--partitioner", default="Iid", show_default=True, help="Such as Dirichlet, NaturalId, Shard.")
    @click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Its settings: alpha=0.5.")
    @click.option("--split", default="train", show_default=True)
    @click.option("--subset", help="The hub's name for a configuration.")
    @click.option("--seed", default=42, show_default=True)
    @wraps(command)
    def parse(
        dataset: str,
        num_partitions: int | None,
        partitioner: str,
        options: tuple[str, ...],
        split: str,
        subset: str | None,
        seed: int,
        **rest: object,
    ) -> None:
        from umbel.datasets import FederatedDataset

        try:
            how = _partitioner(partitioner, num_partitions, options)
            divided = FederatedDataset(dataset=dataset, subset=subset, partitioners={split: how}, seed=seed)
            command(divided, split, **rest)
        except DataError as error:
            raise click.ClickException(str(error)) from None

    return parse


def _partitioner(name: str, count: int | None, options: tuple[str, ...]) -> Any:
    from umbel import datasets

    title = name if name.endswith("Partitioner") else f"{name}Partitioner"
    known = {one.lower(): one for one in datasets.__all__ if one.endswith("Partitioner")}
    kind = known.get(title.lower())
    if kind is None or kind in ("Partitioner", "RowPartitioner"):
        concrete = sorted(set(known.values()) - {"Partitioner", "RowPartitioner"})
        raise DataError(f"There is no partitioner {name!r}. There are: {', '.join(concrete)}.")
    make = getattr(datasets, kind)
    parameters = signature(make).parameters
    settings: dict[str, object] = {}
    for option in options:
        setting, equals, value = option.partition("=")
        if not equals:
            raise DataError(f"The option {option!r} has no value: write it as NAME=VALUE, such as alpha=0.5.")
        known_as = parameters.get(setting.strip())
        settings[setting.strip()] = _value(value, "" if known_as is None else str(known_as.annotation))
    if count is not None:
        settings["num_partitions"] = count
    for given in (settings, {"num_partitions": 10, **settings}):
        try:
            return make(**given)
        except TypeError as error:  # an option that is missing, or unknown
            said = str(error).partition("() ")[2] or str(error)
    raise DataError(f"{kind} {said}. Give its settings with -o NAME=VALUE.")


def _value(text: str, kind: str) -> object:
    """What a setting of this annotation is given as text: JSON, or the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    is_name = isinstance(value, (int, float)) and "str" in kind and "int" not in kind  # of a column that is called "1"
    return text if is_name else value


@_division
@click.option("--label", help="Count the rows of each value of this column.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw the counts into this file (.png, .svg, .pdf).")
@click.option("--heatmap", is_flag=True, help="Draw cells instead of bars.")
@click.option("--percent", is_flag=True, help="Draw shares of each part instead of rows.")
def show(
    divided: FederatedDataset, split: str, label: str | None, picture: str | None, heatmap: bool, percent: bool
) -> None:
    """Show the parts of DATASET: a name, a file or a folder."""
    from umbel.datasets.heterogeneity import compute_counts
    from umbel.datasets.plot import plot_label_distributions

    partitioner = divided.partitioners[split]
    rows = [["part", "rows"]]
    rows += [[str(part), str(len(partitioner.load_partition(part)))] for part in range(partitioner.num_partitions)]
    if label is not None:
        table = compute_counts(partitioner, label, verbose_names=True)
        counts = table.to_numpy()
        if len(table.columns) <= _LABELS:
            rows[0] += [str(value)[:24] for value in table.columns]
            for row, found in zip(rows[1:], counts, strict=True):
                row += [str(int(number)) for number in found]
        else:
            rows[0].append(f"values of {label}")
            for row, found in zip(rows[1:], counts, strict=True):
                row.append(str(int((found > 0).sum())))
    for line in align(rows):
        click.echo(line)
    if picture is not None:
        if label is None:
            raise DataError("--picture draws the values of a column: say which with --label.")
        figure, _, _ = plot_label_distributions(
            partitioner, label, "heatmap" if heatmap else "bar", "percent" if percent else "absolute", legend=True
        )
        try:
            figure.savefig(picture)
        except (OSError, ValueError) as error:
            raise DataError(f"The picture {picture} cannot be written: {error}.") from error
        click.echo(f"Drawn: {picture}")


@_division
@click.option("--out", type=click.Path(file_okay=False), required=True, help="The folder to write to.")
def write(divided: FederatedDataset, split: str, out: str) -> None:
    """Write the parts of DATASET to disk, each for one client.

    A part of a Hugging Face dataset becomes a folder that `datasets.load_from_disk` reads; of anything else, an .npz. Both
    are what `FederatedDataset(dataset=...)` takes. A folder that has parts already is left as it is.
    """
    from umbel.datasets.saving import save

    if there := sorted(path.name for path in Path(out).glob("partition_*")):
        raise DataError(
            f"{out} has parts already, such as {there[0]}, which would stay among the new ones. Remove them, or choose "
            "another folder."
        )
    partitioner = divided.partitioners[split]
    for number in range(partitioner.num_partitions):
        part = partitioner.load_partition(number)
        path = save(part, Path(out) / f"partition_{number}")
        click.echo(f"{path}: {len(part)} rows")


@data.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def fetch(context: click.Context, names: tuple[str, ...]) -> None:
    """Fetch data sets by NAME into the local cache; `umbel data list` lists them."""
    from umbel.datasets.fetch import main

    context.exit(main(names))


@data.command(name="list")
def list_() -> None:
    """List the data sets that can be fetched."""
    from umbel.datasets.catalogue import CATALOGUE
    from umbel.datasets.mnist_files import edition_here

    rows = [("mnist", edition_here() is not None, "70,000 handwritten digits")]
    rows += [(entry.name, entry.files.present(), entry.about) for entry in CATALOGUE.values()]
    for name, here, about in rows:
        click.echo(f"{name:14}  {'here' if here else '-':4}  {about}")
