"""A file that callbacks write anew: whole under its name, or as it was. Knows no callback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; once the block ends, what is there takes the place of what was at `path`."""
    whole = path.with_name(f".{path.name}.part")
    yield whole
    os.replace(whole, path)
