"""Ray actors as hands, one per place for a client on a cluster: how one is started, spoken to and killed.

Models go through the object store, once each. Ray does not say which task an actor was at when it died. That is known only
of a piece that is done with care: its tasks are sent one by one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from msgspec import Struct

from umbel.errors import SimulationError
from umbel.params import NDArray
from umbel.runtime.log import logger
from umbel.runtime.transports.simulated.complaints import Broken, sendable, unusable
from umbel.runtime.transports.simulated.crew import Began, Died, Finished, Said, Tried, Woken
from umbel.runtime.transports.simulated.importable import by_value, dump_code
from umbel.runtime.transports.simulated.pieces import Piece, Work
from umbel.runtime.transports.simulated.shared import SharedContents, map_file
from umbel.runtime.transports.simulated.worker import Actor, Result

try:
    import ray
    from ray.exceptions import ObjectStoreFullError, RayTaskError
except ImportError as error:
    raise ImportError(f"backend=\"ray\" needs Ray ({error}): pip install 'umbel[ray]'", name="ray") from None

__all__ = ["RayYard"]

CONNECT_TIMEOUT = 10.0  # seconds until a cluster counts as not there

_IMPORTABLE = (
    "Install it on the machines of the cluster, send it along with ray_init_args={'runtime_env': {'working_dir': '.'}}"
)
# lines around the one in which Ray tells why an actor died
_FRAME = re.compile(r"\s|$|The actor died unexpectedly before finishing this task")


class _Actor:
    """One place for a client on the cluster, and the actor that fills it just now."""

    def __init__(self, slot: int, handle: Any, yard: RayYard) -> None:
        self.slot = slot
        self.at: int | None = None
        self.handle = handle
        self.open = 0  # calls that are not answered
        self.process: int | None = None  # once the user's code is loaded
        self.why: str | None = None  # it died, or is to
        self.given: set[str] = set()  # what it has
        self._yard = yard

    @property
    def name(self) -> str:
        return f"Ray worker {self.slot}" + (f" (process {self.process})" if self.process else "")

    @property
    def ready(self) -> bool:
        return self.process is not None and self.why is None

    def try_client(self, client: str) -> None:
        self.call(self.handle.try_client.remote(client, self._yard.threads), self._report_tried)

    def send(self, piece: Piece) -> None:
        names = [name for name in piece.given.values() if name not in self.given]
        self.given = {*piece.given.values()}
        contents = [self._yard.put_content(name) for name in names]
        if piece.careful:
            self.call(self.handle.begin_piece.remote(piece, names, *contents), lambda _: self._step(piece, 0))
        else:
            self.call(self.handle.do.remote(piece, names, *contents), self._report_finished)

    def kill(self, why: str) -> None:
        """Its open calls fail then; it counts as dead after the last of them."""
        self.why = why
        ray.kill(self.handle)

    def call(self, reference: Any, then: Callable[[Any], list[Said]]) -> None:
        self.open += 1
        future: Future[Any] = reference.future()
        future.add_done_callback(lambda answer: self._yard.inbox.put(_Heard(self, answer, then)))

    def began(self, answer: int | Broken) -> list[Said]:
        if isinstance(answer, Broken):
            raise _unusable(answer)
        self.process = answer
        return [Began(self)]

    def _report_tried(self, broken: Broken | None) -> list[Said]:
        if broken is not None:
            raise _unusable(broken)
        return [Tried(self)]

    def _step(self, piece: Piece, position: int) -> list[Said]:
        """The next task of a piece that is done with care: each is sent when the one before has been answered."""
        if position == len(piece.tasks):
            self.at = None
            self.call(self.handle.finish.remote(), self._report_finished)
        else:
            self.at = piece.tasks[position].index
            self.call(self.handle.do_task.remote(position), lambda _: self._step(piece, position + 1))
        return []

    def _report_finished(self, result: Result[NDArray]) -> list[Said]:
        self._yard.adopt(result.updates)
        # a copy: what comes out of the object store cannot be written to
        return [Finished(self, result.done, {chunk: bytearray(total.data) for chunk, total in result.totals.items()})]


class _Heard(Struct, frozen=True):
    """The answer to a call, and what is done with it."""

    actor: _Actor
    answer: Future[Any]
    then: Callable[[Any], list[Said]]


class RayYard:
    """As many actors as the cluster has places for clients that need `cpus` and `gpus` each; at most `workers`, or `useful`
    where that is None.

    A Ray that is up already is used, and left up. Otherwise `ray.init(**init)` connects to a cluster or starts one, until
    `close`. Raises `SimulationError` where there is no Ray to be had, no place on it, or `work` cannot be sent there.
    """

    def __init__(
        self,
        work: Work,
        contents: SharedContents,
        *,
        cpus: float,
        gpus: float,
        workers: int | None,
        useful: int,
        threads: int,
        init: Mapping[str, object],
    ) -> None:
        self.threads = threads
        self.inbox: queue.SimpleQueue[_Heard | None] = queue.SimpleQueue()
        self._contents = contents
        self._put: dict[str, Any] = {}
        self._actors: list[_Actor] = []
        with sendable("Ray workers"), by_value(work.client_fn, *work.makers):
            pickled = dump_code(work)
        self._ours = not ray.is_initialized()
        try:
            if self._ours:
                _connect(init)
            found = _places(cpus, gpus)
            self.slots = min(found, workers or useful)
            if workers is not None and workers > found:
                logger.info("The Ray cluster has room for %d of workers=%d", found, workers)
            self._work = _put(np.frombuffer(pickled, np.uint8))
            self._needs = f"num_cpus={cpus:g}, num_gpus={gpus:g}"
            self._kind = ray.remote(Actor).options(
                num_cpus=cpus,
                num_gpus=_as_ray_counts(gpus),
                max_restarts=0,  # without a runtime_env: Ray has processes without one in store, others take seconds
            )
        except BaseException:
            self.close()
            raise

    def describe(self) -> str:
        free = ray.available_resources()
        return (
            f"a Ray worker ({self._needs} each; free are {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs)"
        )

    def hire(self, slot: int) -> _Actor:
        actor = _Actor(slot, self._kind.remote(), self)
        self._actors.append(actor)
        actor.call(actor.handle.begin.remote(self._work, [*sys.path], [*sys.argv], self.threads), actor.began)
        return actor

    def hear(self, timeout: float | None) -> list[Said]:
        try:
            heard = self.inbox.get(timeout=timeout)
        except queue.Empty:
            return []
        if heard is None:
            return [Woken()]
        actor, error = heard.actor, heard.answer.exception()
        actor.open -= 1
        said: list[Said] = []
        if error is None:
            said = heard.then(heard.answer.result())
        elif actor.why is None:
            actor.kill(f"{actor.name} {_how(error)}")
        if actor.why is not None and not actor.open:  # whatever it had finished before has been heard
            self._actors.remove(actor)
            said.append(Died(actor, actor.why))
        return said

    def wake(self) -> None:
        self.inbox.put(None)  # a SimpleQueue's put may be interrupted by another

    def close(self) -> None:
        for actor in self._actors:
            with contextlib.suppress(Exception):  # Ray may be down
                ray.kill(actor.handle)
        self._actors = []
        self._put = {}
        self._work = None
        if self._ours:
            ray.shutdown()
            self._ours = False

    def put_content(self, name: str) -> Any:
        """The reference to a content in the object store. Those that no actor has at present are forgotten."""
        if name not in self._put:
            needed = {name for actor in self._actors for name in actor.given}
            self._put = {known: content for known, content in self._put.items() if known in needed}
            self._put[name] = _put(np.frombuffer(map_file(self._contents.file(name)), np.uint8))
        return self._put[name]

    def adopt(self, updates: Mapping[str, NDArray]) -> None:
        """Puts updates that have come by themselves into the contents."""
        for name, update in updates.items():
            self._contents.keep_update(name, [update.data])


def _connect(init: Mapping[str, object]) -> None:
    """Connects to a cluster, or starts one; quietly, unless the user wants it otherwise."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _look_for(init)
    calm = {"include_dashboard": False, "logging_level": logging.ERROR}
    with _keep_sigterm():
        try:
            ray.init(**{**calm, **init})
        except Exception as error:  # Ray raises what it likes, bare exceptions among it
            raise SimulationError(f"ray.init(**ray_init_args) failed with ray_init_args={dict(init)}: {error}") from error


def _look_for(init: Mapping[str, object]) -> None:
    """Raises `SimulationError` where nobody listens: Ray itself would go on trying for minutes."""
    host, _, port = str(init.get("address")).removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # "local" or "auto", say
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        raise SimulationError(
            f"nothing answers at {host}:{port} (ray_init_args={dict(init)}): {error}. Is the cluster up? "
            "ray_init_args={'address': 'local'} starts one"
        ) from error


@contextlib.contextmanager
def _keep_sigterm() -> Iterator[None]:
    """`ray.init` puts a handler of its own in the place of the program's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _places(cpus: float, gpus: float) -> int:
    """How many clients fit on the cluster side by side. Raises `SimulationError` where not one does."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs = {"CPU": cpus, "GPU": _as_ray_counts(gpus)}
    found = sum(
        min(int(node.get(name, 0.0) / need + 1e-9) for name, need in needs.items() if need) for node in nodes
    )
    if not found:
        has = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise SimulationError(
            f"a client wants num_cpus={cpus:g} and num_gpus={gpus:g}, and no machine of the Ray cluster has that ({has}); "
            "ask for less in client_resources, or start Ray with more"
        )
    return found


def _as_ray_counts(gpus: float) -> float:
    """Ray shares one GPU among clients; beyond one it counts whole ones."""
    return gpus if gpus <= 1 else float(-(-gpus // 1))


def _put(array: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
    try:
        return ray.put(array)
    except ObjectStoreFullError as error:
        raise SimulationError(
            f"{array.nbytes:,} bytes do not fit into Ray's object store; give it more with "
            "ray_init_args={'object_store_memory': …}"
        ) from error


def _unusable(broken: Broken) -> SimulationError:
    return unusable(broken, "a Ray worker", importable=_IMPORTABLE)


def _how(error: BaseException) -> str:
    """What became of an actor, out of what Ray says in many lines."""
    text = str(error)
    if "No module named 'umbel" in text:
        return "cannot import umbel; install the same version on every machine of the cluster"
    if isinstance(error, RayTaskError):
        return f"raised {text.strip().splitlines()[-1]}"
    detail = re.search(r"exit detail: (.*)", text)
    told = (line for line in text.splitlines() if not _FRAME.match(line))
    said = detail[1] if detail else next(told, type(error).__name__)
    if "End of file" in said:
        return "died without a word: killed, out of memory, or crashed"
    return f"died: {said.strip()[:300]}"
