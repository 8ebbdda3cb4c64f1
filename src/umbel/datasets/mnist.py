"""MNIST and Fashion-MNIST from the local cache, in the shape that the Hugging Face hub gives it.

Knows no network and no partitions. Importing this file imports `datasets`.
"""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from umbel.datasets import idx
from umbel.datasets.cache import keep_table, table_path
from umbel.datasets.mnist_files import TEST, TRAIN, Edition

__all__ = ["load"]

_CHECKSUM = b"umbel.labels.crc32"


def load(edition: Edition) -> datasets.DatasetDict:
    """Splits `train` and `test` with `image` (28×28, mode L) and `label`.

    What was read once is kept as an Arrow file that later processes map: 0.3 s to read, 3 ms to map. Of that file the labels
    are checked each time, since they say who gets which rows, and the pictures, which nobody has read yet, are not. Raises
    DataError for a damaged file, where there is nothing kept.
    """
    return datasets.DatasetDict(
        {
            "train": _split("train", TRAIN, edition.train, edition),
            "test": _split("test", TEST, edition.test, edition),
        }
    )


def _split(name: str, files: tuple[str, str], rows: int, edition: Edition) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(edition.classes))})
    kept = table_path(f"{edition.files.folder}-{name}", ".arrow", edition.files, [Path(__file__), Path(idx.__file__)])
    table = _mapped(kept, features.arrow_schema, rows)
    if table is None:
        images, labels = (idx.read_idx(edition.files.read(file)) for file in files)
        table = pa.table({"image": _as_pgm(images), "label": pa.array(labels.astype(np.int64))})
        written = pa.BufferOutputStream()
        checked = table.replace_schema_metadata({_CHECKSUM: _checksum(table)})
        with pa.ipc.new_file(written, checked.schema) as file:
            file.write_table(checked)
        if keep_table(kept, memoryview(written.getvalue())):
            table = _mapped(kept, features.arrow_schema, rows) or table
    return datasets.Dataset(
        # Not as a MemoryMappedTable, beside whose file `map` would keep all that it makes, for ever.
        datasets.table.InMemoryTable(table),
        info=datasets.DatasetInfo(features=features),
        split=datasets.NamedSplit(name),
        # Given, because computing one would hash all of the table.
        fingerprint=edition.files.sha256[files[0]][:16],
    )


def _mapped(path: Path, schema: pa.Schema, rows: int) -> pa.Table | None:
    """The table in a file, on disk until it is looked at; None where there is no such file, or it is damaged."""
    with contextlib.suppress(OSError, pa.ArrowInvalid):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        expected = (table.schema.metadata or {}).get(_CHECKSUM)
        if table.num_rows == rows and table.schema == schema and expected == _checksum(table):
            return table.replace_schema_metadata(None)
    return None


def _checksum(table: pa.Table) -> bytes:
    """The crc32 of the labels: 0.5 ms, and 50 ms with the pictures."""
    return b"%08x" % zlib.crc32(table.column("label").to_numpy())


def _as_pgm(images: npt.NDArray[np.uint8]) -> pa.StructArray:
    """Each image as a PGM file, which is a line of text and then the pixels: a `datasets.Image` column.

    60,000 take 0.1 s to make; as PNG they take 8 s. They also decode faster: 16,000 in 1.5 s instead of 2.0 s.
    """
    count, height, width = images.shape
    header = np.frombuffer(f"P5 {width} {height} 255\n".encode(), np.uint8)
    files = np.empty((count, header.size + height * width), np.uint8)
    files[:, : header.size] = header
    files[:, header.size :] = images.reshape(count, -1)
    offsets = np.arange(count + 1, dtype=np.int32) * files.shape[1]
    content = pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(files)])
    return pa.StructArray.from_arrays([content, pa.nulls(count, pa.string())], ["bytes", "path"])
