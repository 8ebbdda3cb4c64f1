"""The Hugging Face hub: whether it can be reached, and what `datasets` already has of it on disk.

Left to itself, `datasets` needs 23 s of retries to find out that there is no network. Knows no partitions and no data
set by name. Importing this file imports `datasets`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping

import datasets
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub import get_session

__all__ = ["cached_copy", "first_cause", "why_unreachable"]

_PATIENCE = 2.5  # seconds. With the import of datasets (1.5 s) and the local copy (0.2 s), all is said within 5 s.


def why_unreachable() -> str | None:
    """None if the hub answers in time, else what is in the way. Honours HF_HUB_OFFLINE, HF_ENDPOINT and proxies."""
    if datasets.config.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    # A thread, because no timeout of a client covers a name server that never answers; daemon, so it delays no exit.
    threading.Thread(target=lambda: answers.put(_ask()), daemon=True, name="umbel-hub-probe").start()
    try:
        reason = answers.get(timeout=_PATIENCE)
    except queue.Empty:
        reason = f"no answer in {_PATIENCE:g} s"
    return None if reason is None else f"{datasets.config.HF_ENDPOINT}: {reason}"


def _ask() -> str | None:
    try:
        status = get_session().head(datasets.config.HF_ENDPOINT, timeout=_PATIENCE).status_code
    except Exception as error:  # the session is requests or httpx, by version: their errors share no other base
        return first_cause(error)
    return f"it answers with status {status}" if status >= 500 else None


def first_cause(error: BaseException) -> str:
    """The first line of what went wrong first; what was raised on top of it can be a screenful."""
    while below := error.__cause__ or error.__context__:
        error = below
    return str(error).strip().split("\n")[0] or type(error).__name__


def cached_copy(name: str, subset: str | None, options: Mapping[str, object]) -> datasets.DatasetDict | None:
    """What an earlier `load_dataset(name, subset)` left in the cache of `datasets`, or None."""
    try:
        return Cache(
            repo_id=name,
            dataset_name=name.split("/")[-1],
            config_name=subset,
            cache_dir=options.get("cache_dir"),
            version="auto",
            hash="auto",
        ).as_dataset()
    except (ValueError, FileNotFoundError):  # its ways to say that there is none, or a part of one
        return None
