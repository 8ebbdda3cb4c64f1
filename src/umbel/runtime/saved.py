"""Models that outlive their run: what their files say about themselves, and how a version is read when somebody asks.

Knows files and versions; knows no rounds. A file that other libraries have written can be read, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from umbel.errors import StoreError, WireError
from umbel.named import NamedArrays
from umbel.params import Blob, Params
from umbel.runtime.contents import Content, Contents, creating
from umbel.wire import BYTES, MAX_HEADER, add_metadata, dtype_of, encode_header, parse_table, short

__all__ = ["BestModel", "MakeModel", "SavedModel", "describe", "load", "mark", "read_whole", "write_model"]

MakeModel = Callable[[NamedArrays], object]  # a framework's model with these parameters
_LONGEST_ORDER = 1 << 20  # characters; the header has the names in their order, too


def load(path: str | os.PathLike[str]) -> NamedArrays:
    """The arrays of a model's file, by name and in order: a list that knows its names; `.metadata` is what the file says.

    Arrays are writable, row-major, of the dtype that they have in the file, bfloat16 and float8 by ml_dtypes. A folder
    stands for the newest model in it. Any safetensors file can be read. Raises `WireError` for a file that is none, and
    `OSError` where it cannot be opened.

        net.load_state_dict({name: torch.from_numpy(array) for name, array in fl.load("model.safetensors").items()})
    """
    place = Path(path)
    if place.is_dir():
        place = _newest_in(place)
    with place.open("rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > MAX_HEADER:
            raise WireError(f"{place} is no safetensors file{_remedy(first)}")
        try:
            tensors, metadata = parse_table(first + file.read(length))
        except WireError as error:
            raise WireError(f"{place} is no safetensors file: {error}{_remedy(first)}") from None
        begin, size = 8 + length, os.fstat(file.fileno()).st_size
        arrays = {}
        for spec, start, end in tensors:
            if not 0 <= start <= end <= size - begin or end - start != spec.nbytes:
                raise WireError(f"{place}: tensor {short(spec.name)} claims bytes {start} to {end}, which are not there")
            array = np.empty(spec.shape, dtype_of(spec.dtype))
            file.seek(begin + start)
            file.readinto(array.reshape(-1).view(np.uint8).data)
            is_bytes = spec.name.endswith(BYTES) and spec.dtype == "U8"
            arrays[spec.name] = array.view(Blob) if is_bytes else array
    names = _order_in(metadata) or [*arrays]
    if sorted(names) != sorted(arrays):
        names = [*arrays]
    return NamedArrays([arrays[name] for name in names], names, metadata)


def describe(names: tuple[str, ...], *, run: str, number: int, strategy: str = "", loss: object) -> dict[str, str]:
    """What a model's file says about itself: the version that round `number` of `run` has made, and its loss."""
    said = {"format": "pt", "run": run, "round": str(number)}  # transformers asks for a format
    if strategy:
        said["strategy"] = strategy
    if isinstance(loss, (int, float)):
        said["loss"] = repr(float(loss))
    order = json.dumps(names, separators=(",", ":"), ensure_ascii=False)
    return said | ({"order": order} if len(order) <= _LONGEST_ORDER else {})


def write_model(content: Content, metadata: Mapping[str, str], write: Callable[[bytes | memoryview], object]) -> None:
    """Writes a content as a model's file, which says this about itself."""
    write(add_metadata(encode_header(content.schema), metadata))
    for block in content.blocks(content.data_begin):
        write(block)


def read_whole(content: Content) -> Params:
    """A copy in memory of a content that does not outlive its run."""
    params = Params.empty(content.schema)
    content.source(0, params.buffer.data)
    return params


def mark(contents: Contents, name: str, metadata: Mapping[str, str]) -> None:
    """Puts in the place of a content the same model with what it says about itself. Raises `StoreError`."""
    content = contents.open(name)
    with creating(contents, name) as writer, closing(content):
        write_model(content, metadata, writer.write)


@dataclass
class SavedModel:
    """One version of a model: in its file where the run is kept, in memory where it is not. Read when somebody asks."""

    metadata: dict[str, str]
    path: Path | None = None
    held: Params | None = None
    make_model: MakeModel | None = field(default=None, repr=False, compare=False)

    @cached_property
    def parameters(self) -> NamedArrays:
        """The arrays, which are in memory from now on. Raises `StoreError` where the file is gone."""
        if self.held is not None:
            arrays = self.held.arrays()
        else:
            assert self.path is not None
            try:
                arrays = load(self.path)
            except FileNotFoundError:
                raise StoreError(f"the run's model {self.path} is gone: it was removed after the run") from None
        return NamedArrays(arrays, arrays.names, self.metadata)

    @cached_property
    def model(self) -> object:
        """A model of its framework with these parameters, the same one each time.

        Raises `StoreError` where nobody has said how one is made.
        """
        if self.make_model is None:
            raise StoreError(
                "how a model is made of the parameters is not known here: fl.federate and the clients of umbel.frameworks "
                "say it. Put them into a model of your own: umbel.frameworks has load(model, history.parameters)"
            )
        return self.make_model(self.parameters)

    def __getstate__(self) -> dict[str, object]:
        """A pickle is without the function that makes a model, and without what can be read again."""
        kept = {name: value for name, value in vars(self).items() if name not in ("parameters", "model")}
        return {**kept, "make_model": None}


@dataclass
class BestModel(SavedModel):
    """The best version by the metric of `keep_best`, which was `value` after this round."""

    round: int = 0
    metric: str = ""
    value: float = 0.0


def _newest_in(folder: Path) -> Path:
    """The model in a folder: of a run, or as transformers keeps them."""
    found = [path for path in folder.glob("model*.safetensors") if "+" not in path.name]
    if not found:
        raise FileNotFoundError(f"{folder} has no model (no file model….safetensors); give the file")
    return max(found, key=lambda path: path.name)


def _order_in(metadata: Mapping[str, str]) -> list[str]:
    try:
        order = json.loads(metadata.get("order", "[]"))
    except ValueError:
        return []
    return order if isinstance(order, list) and all(isinstance(name, str) for name in order) else []


def _remedy(first: bytes) -> str:
    if first[:2] == b"PK" or first[:1] == b"\x80":
        return "; torch.load reads files of torch.save"
    return ""
