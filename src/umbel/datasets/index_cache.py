"""Which rows each client has, computed once on a machine and then kept on disk.

One file holds all partitions of one split. A client reads the table at its head and its own part, each with a checksum:
1,000 clients of 1,000,000 rows cost one of them 10 kB and 0.2 ms. A file enters whole, by a rename, so any number of
processes may compute and write at once; one that is damaged is as good as none.

A file is found by a key, which covers all that the rows depend on: the data's fingerprint, the order it was shuffled into,
the settings of the partitioner, and the code of the partitioners. Where one of these has no key (data that nothing cheap
identifies, a partitioner of one's own, a function among its settings), nothing is kept.

    "umbelix1" | n | crc32 of the table | n × (first row, rows, crc32) | rows …        all 8-byte little-endian
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from umbel.datasets.cache import clear_unfinished, data_dir, replace_file
from umbel.datasets.partition import IndexArray
from umbel.datasets.partitioners import Partitioner, checked_id
from umbel.errors import DataError

__all__ = ["key_of", "read", "settings", "write"]

_MAGIC = b"umbelix1"
_KEPT = 512_000_000  # bytes of indices on a machine; the oldest files make room


def key_of(*, fingerprint: str, size: int, order: str, partitioner: str) -> str:
    """The name of the file for these rows. `order` says how they were shuffled, `partitioner` is what `settings` said."""
    parts = (fingerprint, str(size), order, partitioner, _code())
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def settings(partitioner: Partitioner) -> str | None:
    """A partitioner's class and settings as text. None for a class that is not Umbel's own, and for settings without one.

    To be asked before the partitioner has divided anything, while its attributes are its settings.

    >>> from umbel.datasets.partitioners import IidPartitioner
    >>> settings(IidPartitioner(3))
    "IidPartitioner {'_num_partitions': 3}"
    """
    kind = type(partitioner)
    if not kind.__module__.startswith("umbel.datasets."):
        return None
    text = _text(vars(partitioner))
    return None if text is None else f"{kind.__qualname__} {text}"


def read(key: str, partition_id: object) -> IndexArray | None:
    """The rows of one partition; None where they are not kept, or not whole.

    Raises DataError where they are kept and there is no such partition.
    """
    path = _path(key)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            head = file.read(24)
            count = int.from_bytes(head[8:16], "little")
            if len(head) < 24 or head[:8] != _MAGIC or 24 * count > os.fstat(file.fileno()).st_size:
                return None
            table = file.read(24 * count)
            if len(table) < 24 * count or zlib.crc32(table) != int.from_bytes(head[16:], "little"):
                return None
            number = checked_id(partition_id, num_partitions=count)
            first, length, checksum = np.frombuffer(table, "<i8").reshape(-1, 3)[number].tolist()
            file.seek(24 + len(table) + 8 * first)
            part = file.read(8 * length)
            if len(part) < 8 * length or zlib.crc32(part) != checksum:
                return None
    except OSError:
        return None
    return np.frombuffer(part, "<i8").astype(np.int64, copy=False)


def write(key: str, partitions: Sequence[IndexArray]) -> None:
    """Keep the rows of all partitions. Where the disk does not take them, they are not kept, and that is all."""
    parts = [np.ascontiguousarray(part, "<i8") for part in partitions]
    table = np.zeros((len(parts), 3), "<i8")
    if parts:
        lengths = np.array([len(part) for part in parts])
        table[:, 0] = np.cumsum(lengths) - lengths
        table[:, 1] = lengths
        table[:, 2] = [zlib.crc32(part.data) for part in parts]
    head = _MAGIC + len(parts).to_bytes(8, "little") + zlib.crc32(table.tobytes()).to_bytes(8, "little")
    path = _path(key)
    if path is None:
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_unfinished(path.parent)
        content = b"".join([head, table.tobytes(), *(part.tobytes() for part in parts)])
        _make_room(path.parent, len(content))
        replace_file(path, content)


def _path(key: str) -> Path | None:
    """Where the rows of this key are kept; None where there is no folder for data."""
    try:
        return data_dir() / "indices" / f"{key}.rows"
    except DataError:
        return None


def _make_room(folder: Path, size: int) -> None:
    files = sorted(((path.stat(), path) for path in folder.glob("*.rows")), key=lambda kept: kept[0].st_mtime)
    total = size + sum(state.st_size for state, _ in files)
    for state, path in files:
        if total <= _KEPT:
            return
        path.unlink(missing_ok=True)
        total -= state.st_size


def _text(value: object) -> str | None:
    """A text that two values share only where they divide alike; None where there is none."""
    match value:
        case None | bool() | int() | str():
            return repr(value)
        case float() | np.generic():
            return f"{type(value).__name__} {value!r}"
        case np.ndarray() if not value.dtype.hasobject:
            digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
            return f"array {value.dtype.str} {value.shape} {digest}"
        case list() | tuple():
            items = [_text(item) for item in value]
            return None if None in items else f"[{', '.join(map(str, items))}]"
        case Mapping():
            pairs = [(_text(name), _text(item)) for name, item in value.items()]
            known = all(None not in pair for pair in pairs)
            return f"{{{', '.join(f'{name}: {item}' for name, item in pairs)}}}" if known else None
        case Partitioner():
            return settings(value)
        case _:
            return None


@cache
def _code() -> str:
    """Changes with the partitioners' files, so that indices of another version of Umbel are not taken for this one's."""
    home = Path(__file__).parent
    states = []
    for folder in (home / "partition", home / "partitioners"):
        with os.scandir(folder) as files:
            states += [(file.path, file.stat()) for file in files if file.name.endswith(".py")]
    return repr(sorted((path, state.st_size, state.st_mtime_ns) for path, state in states))
