"""What a run that goes on needs of its files, held against what was written: which are lost, and whether it can go on.

Knows states, versions and contents; what the run does without them is the coordinator's to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from umbel.errors import StoreError, StoreUnavailable
from umbel.rounds.coordinator import State
from umbel.rounds.messages import Lost
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel

__all__ = ["find_damage"]


def find_damage(model: GlobalModel, state: State) -> Lost | None:
    """What this state needs and has not any more, each with a line in the log; None where everything is what was written.

    Reads every file that is needed once. Raises `StoreError` where the run cannot go on.
    """
    faults = {version: _fault(partial(model.check, version)) for version in sorted(state.versions)}
    for version in state.spare - state.versions:
        faults[version] = _fault(partial(model.check, version, needed=False))
    contents = {name: _fault(partial(_open, model, name)) for name in sorted(state.contents)}
    for fault in filter(None, [*faults.values(), *contents.values()]):
        logger.warning("%s", fault)
    versions = [version for version, fault in faults.items() if fault]
    if state.version in versions and not state.spare.difference(versions):
        found = "; ".join(faults[version] for version in versions)
        raise StoreError(
            f"{found}. No whole version of the model is left: put back a copy of these files and start again, or begin anew "
            "with fresh=True"
        )
    lost = tuple(name for name, fault in contents.items() if fault)
    return Lost(lost, tuple(versions)) if lost or versions else None


def _open(model: GlobalModel, name: str) -> None:
    model.contents.open(name).close()


def _fault(check: Callable[[], None]) -> str:
    """What `check` finds wrong; "" for nothing."""
    try:
        check()
    except StoreUnavailable:  # it may be whole
        raise
    except StoreError as error:
        return str(error)
    return ""
