"""How large an update may be whose size no model says: a client's own parameters, or what a strategy combines by itself."""

from __future__ import annotations

import shutil

from umbel.runtime.contents import Contents, FileContents

__all__ = ["MOST", "largest_update"]

MOST = 64 * 2**30


def largest_update(contents: Contents, max_bytes: int | None) -> int:
    """What the owner has said; otherwise as much as the disk can hold twice, 64 GiB at most."""
    if max_bytes is not None:
        return max_bytes
    return min(MOST, shutil.disk_usage(contents.folder).free // 2) if isinstance(contents, FileContents) else MOST
