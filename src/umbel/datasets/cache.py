"""Files that are known by their sha256, in a folder of the user's.

A file enters the folder whole and checked, by a rename, so several processes may fill it at once; it is checked again
when it is read. Knows no datasets and no network. Standard library only: `scripts/fetch-data` runs without numpy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from umbel.errors import DataError

__all__ = ["KnownFiles", "clear_unfinished", "data_dir", "keep_table", "replace_file", "table_path"]


def data_dir() -> Path:
    """Where data is kept: `$UMBEL_DATA`, else `$XDG_CACHE_HOME/umbel`, else `~/.cache/umbel`.

    Raises DataError where that is in the home of a user who has none, as in some containers.
    """
    try:
        if chosen := os.environ.get("UMBEL_DATA"):
            return Path(chosen).expanduser()
        if cache := os.environ.get("XDG_CACHE_HOME"):
            return Path(cache) / "umbel"
        return Path.home() / ".cache" / "umbel"
    except RuntimeError as error:
        raise DataError("There is no home folder to keep data in. Set UMBEL_DATA to a folder.") from error


@dataclass(frozen=True)
class KnownFiles:
    """The files of one folder below `data_dir()`, each with the sha256 that it must have."""

    folder: str
    sha256: Mapping[str, str]
    remedy: str  # what to type where a file is missing or broken

    @property
    def path(self) -> Path:
        return data_dir() / self.folder

    def present(self) -> bool:
        """Whether every file is there. Says nothing of what is in them."""
        return all((self.path / name).is_file() for name in self.sha256)

    def whole(self) -> bool:
        """Whether every file is there and has its sha256."""
        try:
            for name in self.sha256:
                self.read(name)
        except DataError:
            return False
        return True

    def match(self, contents: Sequence[bytes]) -> bool:
        """Whether `contents`, in the order of the files, have their sha256."""
        digests = zip(contents, self.sha256.values(), strict=True)
        return all(hashlib.sha256(content).hexdigest() == expected for content, expected in digests)

    def read(self, name: str) -> bytes:
        """The content of one file. Raises DataError where it cannot be read or is not what it must be."""
        path = self.path / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}. {self.remedy}") from error
        self._check(name, content, where=str(path))
        return content

    def write(self, name: str, content: bytes, *, origin: str) -> None:
        """Put one file in its place, replacing what is there.

        Raises DataError, with that file as it was, where `content` is wrong or cannot be stored.
        """
        self._check(name, content, where=f"{name} from {origin}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self.path / name, content)
        except OSError as error:
            raise DataError(
                f"{self.path / name} cannot be written: {error.strerror}. "
                "Make room, or set UMBEL_DATA to a folder that can take it."
            ) from error

    def _check(self, name: str, content: bytes, *, where: str) -> None:
        # 55 MB of MNIST take 0.05 s, so every reader can afford it.
        found, expected = hashlib.sha256(content).hexdigest(), self.sha256[name]
        if found != expected:
            raise DataError(
                f"{where} is damaged or not the file it should be: {len(content)} bytes with sha256 {found}, "
                f"expected {expected}. {self.remedy}"
            )


def table_path(stem: str, suffix: str, files: KnownFiles, code: Iterable[Path]) -> Path:
    """Where is kept what `code` read from `files`: elsewhere for other files, or another way to read them."""
    digest = hashlib.blake2b(repr(sorted(files.sha256.items())).encode(), digest_size=8)
    for path in sorted(code):
        digest.update(path.read_bytes())
    return data_dir() / "tables" / f"{stem}-{digest.hexdigest()}{suffix}"


def keep_table(path: Path, content: bytes | memoryview) -> bool:
    """Put a table in a `table_path`, in place of one of another version; False where the disk does not take it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_unfinished(path.parent)
        replace_file(path, content)
        for other in path.parent.glob(f"{path.stem.rpartition('-')[0]}-????????????????{path.suffix}"):
            if other != path:
                other.unlink(missing_ok=True)
    except OSError:  # a full or read-only disk costs time, and nothing else
        return False
    return True


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Put a file in its place whole, by a rename; its folder must be there. Raises OSError, with what was there kept."""
    temporary = path.parent / f".{path.name}.{os.urandom(8).hex()}"
    try:
        with temporary.open("xb") as file:  # with the mode that any new file gets here, for whoever shares the folder
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a machine that loses power may keep the name and not the content
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def clear_unfinished(folder: Path) -> None:
    """Remove what `replace_file` left where its process was killed, an hour and more ago. Raises OSError."""
    for path in folder.glob(".*.????????????????"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - 3600:
                path.unlink()
