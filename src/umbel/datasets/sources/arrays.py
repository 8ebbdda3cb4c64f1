"""numpy arrays as splits: in memory, or in .npz and .npy files, which are mapped and not read."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from umbel.datasets.tables import Array, ArrayTable, as_dict, as_single, as_tuple, names_of_tuple
from umbel.datasets.view import View
from umbel.errors import DataError

__all__ = ["from_file", "view_of"]

_SPLIT = re.compile(r"(?P<column>.+)_(?P<split>train|test|valid|validation|val)")
# Above this, hashing the content takes longer than most partitions: 0.1 s.
_HASHED = 100_000_000  # bytes


def view_of(arrays: Array | tuple[Array, ...] | Mapping[str, Array], *, fingerprint: str | None = None) -> View:
    """One split with rows along axis 0. An array is column "x"; a tuple's are "x", "y", "column_2", ...

    Raises DataError for arrays of different lengths, or without rows.

    >>> view_of((np.eye(3), np.array([0, 1, 1])))[1]
    (array([0., 1., 0.]), np.int64(1))
    """
    match arrays:
        case np.ndarray():
            columns, pack = {"x": arrays}, as_single
        case tuple():
            columns, pack = dict(zip(names_of_tuple(len(arrays)), arrays, strict=True)), as_tuple
        case _:
            columns, pack = dict(arrays), as_dict
    for name, column in columns.items():
        if column.ndim == 0:
            raise DataError(f"Column {name!r} is a single value, {column!r}, and must be an array with a row per example.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"The columns of a dataset have different lengths: {', '.join(f'{n!r} {size}' for n, size in lengths.items())}. "
            "Give each row a value in every column; to give splits, make each a tuple or a dict of columns."
        )
    return View(ArrayTable(columns, pack), fingerprint=fingerprint or _digest(columns))


def from_file(path: Path) -> dict[str, View]:
    """The splits of an .npz or .npy file.

    An .npz whose arrays are all called like "x_train" and "y_test" has those splits; otherwise it is one split, "train".
    Raises DataError where the file is missing, damaged, or holds Python objects.
    """
    try:
        if path.suffix == ".npy":
            state = path.stat()
            stamp = f"{path.resolve()}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}"
            return {"train": view_of(np.load(path, mmap_mode="r"), fingerprint=_hash(stamp))}
        arrays, stamp = _mapped(path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} cannot be read: {reason}. Give the path of a file that is there.") from error
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DataError(
            f"{path} cannot be used: {str(error).rstrip('.')}. It must be what numpy.save or numpy.savez wrote, with "
            "numbers or text and no Python objects; write it again."
        ) from error
    if not arrays:
        raise DataError(f"{path} holds no arrays. Write them with numpy.savez(path, x=…, y=…).")
    splits: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        found = _SPLIT.fullmatch(name)
        if found is None:
            return {"train": view_of(arrays, fingerprint=stamp)}
        splits.setdefault(found["split"], {})[found["column"]] = array
    return {split: view_of(columns, fingerprint=_hash(f"{stamp}:{split}")) for split, columns in splits.items()}


def _mapped(path: Path) -> tuple[dict[str, Array], str]:
    """The arrays of an .npz, and a fingerprint of all of them: names, sizes and the crc32 that each has in the file.

    What is stored plainly, as `numpy.savez` does, is mapped; numpy's own `mmap_mode` does nothing for .npz.
    """
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                if member.compress_type == zipfile.ZIP_STORED:
                    array = _map_member(path, member)
                else:
                    array = np.lib.format.read_array(file, allow_pickle=False)
            arrays[name] = array
    return arrays, _hash(repr([(member.filename, member.file_size, member.CRC) for member in members]))


def _map_member(path: Path, member: zipfile.ZipInfo) -> Array:
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(member.header_offset + 30 + int(lengths.sum()))  # the local header's name and extra field, then data
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"array {member.filename.removesuffix('.npy')!r} holds Python objects")
        if 0 in shape:
            return np.empty(shape, dtype)  # nothing to map
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _digest(columns: Mapping[str, Array]) -> str | None:
    """A fingerprint of arrays in memory; None where there are too many bytes, or Python objects that are not text."""
    if sum(column.nbytes for column in columns.values()) > _HASHED:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name, column in columns.items():
        content: bytes | memoryview
        if column.dtype.hasobject:
            texts = column.ravel().tolist()
            if column.dtype != object or not all(isinstance(text, str) for text in texts):
                return None
            content = "".join(f"{len(text)}:{text}" for text in texts).encode(errors="surrogatepass")
        else:
            content = np.ascontiguousarray(column).reshape(-1).view(np.uint8).data if column.size else b""
        digest.update(f"{name!r} {column.dtype.str} {column.shape} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
