"""What is said before the first round about user code that workers cannot use, wherever they run."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Iterator

from msgspec import Struct

from umbel.accidents import message_of
from umbel.errors import SimulationError

__all__ = ["Broken", "sendable", "unusable"]


class Broken(Struct, frozen=True):
    """A worker's answer where the user's code cannot be loaded, or makes no client."""

    error: str
    detail: str
    type_error: bool

    @classmethod
    def by(cls, error: BaseException) -> Broken:
        """What the exception says that is just being handled."""
        return cls(f"{type(error).__name__}: {message_of(error)}", traceback.format_exc(), isinstance(error, TypeError))


@contextlib.contextmanager
def sendable(workers: str) -> Iterator[None]:
    """While inside, user code is pickled for `workers`, "worker processes" say. Raises `SimulationError` if it cannot be."""
    try:
        yield
    except (TypeError, AttributeError, pickle.PicklingError, RecursionError, ValueError) as error:
        raise SimulationError(
            f"client_fn cannot be sent to {workers}: {error}. Make inside client_fn what cannot travel (open files, "
            'locks, connections), or use backend="inline".'
        ) from error


def unusable(broken: Broken, worker: str, *, importable: str) -> SimulationError:
    """The error for `broken`. `worker` is "a worker process", say; `importable` tells how it could import more."""
    if broken.type_error and broken.error.startswith("TypeError: client_fn"):
        return SimulationError(broken.error.removeprefix("TypeError: "))
    if broken.error.startswith("ModuleNotFoundError"):
        return SimulationError(
            f"{worker} cannot import what client_fn needs ({broken.error}). {importable}, "
            "or cloudpickle.register_pickle_by_value(module)."
        )
    return SimulationError(f"client_fn raised {broken.error} in {worker}\n{broken.detail}")
