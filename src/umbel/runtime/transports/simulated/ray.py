"""A crew of Ray actors, one per place for a client on a cluster. Models go through the object store, once each.

A worker that dies is named and replaced. Ray does not say which task it was at: the piece is tried again task by task.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import Struct

from umbel.aggregators import chunk_size
from umbel.errors import SimulationError
from umbel.folding import PartialSum, plan
from umbel.runtime.log import logger
from umbel.runtime.transports.simulated.actor import Result, Worker
from umbel.runtime.transports.simulated.complaints import Broken, sendable, unusable
from umbel.runtime.transports.simulated.importable import by_value, dump_code
from umbel.runtime.transports.simulated.pieces import Done, Lost, Piece, Work
from umbel.runtime.transports.simulated.shared import SharedContents, map_file

try:
    import ray
    from ray.exceptions import ObjectStoreFullError, RayTaskError
except ImportError as error:
    raise ImportError(f"backend=\"ray\" needs Ray ({error}): pip install 'umbel[ray]'", name="ray") from None

__all__ = ["RayCrew"]

GRACE = 1.0  # seconds that a worker has to finish a piece which nobody wants any more
STARTS = 3  # so often in a row a worker may fail to start
START_TIMEOUT = 600.0  # seconds for a place on the cluster and the user's imports
CONNECT_TIMEOUT = 10.0  # seconds until a cluster counts as not there
NAG_EVERY = 10.0  # seconds between two lines about the place that is waited for

_IMPORTABLE = (
    "Install it on the machines of the cluster, send it along with ray_init_args={'runtime_env': {'working_dir': '.'}}"
)
# lines around the one in which Ray tells why an actor died
_FRAME = re.compile(r"\s|$|The actor died unexpectedly before finishing this task")


@dataclass(slots=True, eq=False)
class _Actor:
    """One place, and the actor that fills it just now."""

    slot: int
    handle: Any
    process: int | None = None  # once the user's code is loaded
    pieces: deque[Piece] = field(default_factory=deque)  # the first is being done
    sent: int = 0  # so many of them
    at: int | None = None  # index of the task that it is at, where that is known
    content: str | None = None  # what it has
    open: int = 0  # calls that are not answered
    why: str | None = None  # it died, or is to
    kill_at: float | None = None

    @property
    def ready(self) -> bool:
        return self.process is not None and self.why is None

    @property
    def name(self) -> str:
        return f"Ray worker {self.slot}" + (f" (process {self.process})" if self.process else "")


class _Heard(Struct, frozen=True):
    """The answer to a call, and what is done with it."""

    actor: _Actor
    answer: Future[Any]
    then: Callable[[Any], None]


class RayCrew:
    """As many actors as the cluster has places for clients that need `cpus` and `gpus` each, at most `workers`.

    A Ray that is up already is used, and left up. Otherwise `ray.init(**init)` connects to a cluster or starts one, until
    `close`. `ahead` is how many pieces an actor may have before it has answered; `singly` tells that pieces are single
    tasks. Raises `SimulationError` where there is no Ray to be had, no place on it, or `work` cannot be sent there.
    """

    here = False

    def __init__(
        self,
        work: Work,
        contents: SharedContents,
        *,
        cpus: float,
        gpus: float,
        workers: int | None,
        threads: int,
        singly: bool,
        init: Mapping[str, object],
    ) -> None:
        self._contents = contents
        self._aggregator = work.aggregator
        self._threads = threads
        self._ahead = 1 if singly else 2
        self._inbox: queue.SimpleQueue[_Heard | None] = queue.SimpleQueue()
        self._outcomes: deque[Done | Lost] = deque()
        self._waiting: deque[Piece] = deque()
        self._dropped: set[int] = set()
        self._models: dict[str, Any] = {}
        self._failed_starts = 0
        self._actors: list[_Actor] = []
        with sendable("Ray workers"), by_value(work.client_fn, *work.makers):
            pickled = dump_code(work)
        self._ours = not ray.is_initialized()
        try:
            if self._ours:
                _connect(init)
            found = _places(cpus, gpus)
            # a round has no pieces for more
            useful = -(-work.population // (1 if singly else chunk_size(work.population)))
            self.slots = min(found, workers or useful)
            if workers is not None and workers > found:
                logger.info("The Ray cluster has room for %d of workers=%d", found, workers)
            self._work = _put(np.frombuffer(pickled, np.uint8))
            self._needs = f"num_cpus={cpus:g}, num_gpus={gpus:g}"
            self._kind = ray.remote(Worker).options(
                num_cpus=cpus,
                num_gpus=_as_ray_counts(gpus),
                max_restarts=0,  # without a runtime_env: Ray has processes without one in store, others take seconds
            )
            self._actors = [self._started(slot) for slot in range(self.slots)]
        except BaseException:
            self.close()
            raise

    def try_client(self, client: str) -> None:
        """Waits until a worker has made a client. Raises `SimulationError` where it cannot."""
        began = time.monotonic()
        while not (ready := [actor for actor in self._actors if actor.ready]):
            self._hear(NAG_EVERY)
            waited = time.monotonic() - began
            if waited > START_TIMEOUT:
                raise SimulationError(
                    f"no Ray worker was ready after {START_TIMEOUT:.0f} s ({self._needs} each; {_free()}). Does client_fn's "
                    "module wait, or is the cluster busy with something else?"
                )
            if waited > NAG_EVERY:
                logger.info("Waiting for a Ray worker (%s each; %s)", self._needs, _free())
        made = False

        def hear(broken: Broken | None) -> None:
            nonlocal made
            if broken is not None:
                raise _unusable(broken)
            made = True

        actor = ready[0]
        self._call(actor, actor.handle.try_client.remote(client, self._threads), hear)
        while not made:
            self._hear(None)
            if actor.why is not None:
                raise SimulationError(f"{actor.why} when client_fn made client {client}")

    def free(self) -> bool:
        # A dropped piece takes no place: nobody hears when it is done, and what is to come would wait for ever.
        at_work = sum(piece.number not in self._dropped for actor in self._actors if actor.ready for piece in actor.pieces)
        return len(self._waiting) + at_work < self._ahead * sum(actor.ready for actor in self._actors)

    def start(self, piece: Piece) -> None:
        self._waiting.append(piece)
        self._assign()

    def wait(self, timeout: float | None) -> Done | Lost | None:
        until = None if timeout is None else time.monotonic() + timeout
        while not self._outcomes:
            left = None if until is None else until - time.monotonic()
            if not self._hear(left) or (left is not None and left <= 0):
                break
        return self._outcomes.popleft() if self._outcomes else None

    def wake(self) -> None:
        self._inbox.put(None)  # a SimpleQueue's put may be interrupted by another

    def drop(self, number: int) -> None:
        self._waiting = deque(piece for piece in self._waiting if piece.number != number)
        for actor in self._actors:
            if any(piece.number == number for piece in actor.pieces):
                self._dropped.add(number)
                self._hurry(actor)

    def close(self) -> None:
        for actor in self._actors:
            with contextlib.suppress(Exception):  # Ray may be down
                ray.kill(actor.handle)
        self._actors = []
        self._models = {}
        self._work = None
        if self._ours:
            ray.shutdown()
            self._ours = False

    # ---- what comes from actors

    def _call(self, actor: _Actor, reference: Any, then: Callable[[Any], None]) -> None:
        actor.open += 1
        future: Future[Any] = reference.future()
        future.add_done_callback(lambda answer: self._inbox.put(_Heard(actor, answer, then)))

    def _hear(self, timeout: float | None) -> bool:
        """Waits for something to happen and takes it in. False where `wake` was called, or a worker became ready."""
        deadlines = [actor.kill_at for actor in self._actors if actor.kill_at is not None]
        if deadlines:
            patience = min(deadlines) - time.monotonic()
            timeout = patience if timeout is None else min(timeout, patience)
        goes_on = True
        try:
            heard = self._inbox.get(timeout=None if timeout is None else max(timeout, 0.0))
        except queue.Empty:
            pass
        else:
            goes_on = heard is not None and self._answered(heard)
        now = time.monotonic()
        for actor in self._actors:
            if actor.kill_at is not None and now >= actor.kill_at:
                self._kill(actor, f"{actor.name} was ended: it took too long")
        return goes_on

    def _answered(self, heard: _Heard) -> bool:
        actor = heard.actor
        actor.open -= 1
        was_ready = actor.ready
        error = heard.answer.exception()
        if error is None:
            heard.then(heard.answer.result())
        elif actor.why is None:
            self._kill(actor, f"{actor.name} {_how(error)}")
        if actor.why is not None and not actor.open:  # whatever it had finished before has been heard
            self._bury(actor)
        return was_ready or not actor.ready

    def _began(self, actor: _Actor, answer: int | Broken) -> None:
        if isinstance(answer, Broken):
            raise _unusable(answer)
        actor.process = answer
        self._failed_starts = 0
        self._assign()

    def _take(self, actor: _Actor, piece: Piece, result: Result) -> None:
        """An actor works in order, but a long answer, through the object store, may be overtaken by a short one."""
        done = result.done
        actor.pieces.remove(piece)
        actor.sent -= 1
        actor.kill_at = actor.at = None
        if done.number in self._dropped:
            self._dropped.discard(done.number)
        else:
            if result.total is not None:
                assert self._aggregator is not None
                assert piece.door.schema is not None
                done.total = PartialSum.restored(self._aggregator, plan(piece.door.schema), result.total.load())
            for name, update in result.updates.items():
                self._contents.keep_update(name, [update.data])
            self._outcomes.append(done)
        self._hurry(actor)
        self._send(actor)
        self._assign()

    # ---- what goes to actors

    def _assign(self) -> None:
        while self._waiting:
            actors = [actor for actor in self._actors if actor.ready and len(actor.pieces) < self._ahead]
            if not actors:
                return
            actor = min(actors, key=lambda actor: len(actor.pieces))
            actor.pieces.append(self._waiting.popleft())
            self._send(actor)

    def _send(self, actor: _Actor) -> None:
        """Hands over the pieces that an actor does not know. One that is done with care is alone there."""
        while actor.ready and actor.sent < len(actor.pieces):
            piece = actor.pieces[actor.sent]
            if actor.sent and (piece.careful or actor.pieces[0].careful):
                return
            actor.sent += 1
            content = self._given(actor, piece)
            if piece.careful:
                self._call(actor, actor.handle.open.remote(piece, content), lambda _: self._step(actor, 0))
            else:
                then = functools.partial(self._take, actor, piece)
                self._call(actor, actor.handle.do.remote(piece, content), then)

    def _step(self, actor: _Actor, position: int) -> None:
        """The next task of a piece that is done with care: each is sent when the one before has been answered."""
        piece = actor.pieces[0]
        if position == len(piece.tasks):
            actor.at = None
            self._call(actor, actor.handle.finish.remote(), functools.partial(self._take, actor, piece))
            return
        actor.at = piece.tasks[position].index
        self._call(actor, actor.handle.do_task.remote(position), lambda _: self._step(actor, position + 1))

    def _given(self, actor: _Actor, piece: Piece) -> Any:
        """The reference to a piece's content; None where the actor has it."""
        name = piece.content
        if name is None or name == actor.content:
            return None
        if name not in self._models:
            needed = {piece.content for actor in self._actors for piece in actor.pieces}
            self._models = {known: model for known, model in self._models.items() if known in needed}
            self._models[name] = _put(np.frombuffer(map_file(self._contents.file(name)), np.uint8))
        actor.content = name
        return self._models[name]

    # ---- lives and deaths

    def _started(self, slot: int) -> _Actor:
        actor = _Actor(slot, self._kind.remote())
        reference = actor.handle.begin.remote(self._work, [*sys.path], [*sys.argv], self._threads)
        self._call(actor, reference, lambda answer: self._began(actor, answer))
        return actor

    def _hurry(self, actor: _Actor) -> None:
        if actor.pieces and actor.pieces[0].number in self._dropped and actor.kill_at is None:
            actor.kill_at = time.monotonic() + GRACE

    def _kill(self, actor: _Actor, why: str) -> None:
        """Its open calls fail then; it is buried after the last of them."""
        actor.why, actor.kill_at = why, None
        ray.kill(actor.handle)

    def _bury(self, actor: _Actor) -> None:
        """Names a dead worker, tells which piece is lost, and replaces it."""
        assert actor.why is not None
        if actor.process is None:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise SimulationError(f"{actor.why} before it was ready, the {STARTS}rd in a row")
        self._actors[actor.slot] = self._started(actor.slot)
        pieces = deque(piece for piece in actor.pieces if piece.number not in self._dropped)
        self._dropped -= {piece.number for piece in actor.pieces}
        if pieces and pieces[0] is actor.pieces[0]:
            lost = pieces.popleft()
            logger.warning("%s; it is replaced", actor.why)
            client = next((asked.client for asked in lost.tasks if asked.index == actor.at), None)
            said = f"{actor.why} at client {client}" if client is not None else actor.why
            self._outcomes.append(Lost(lost.number, actor.at, said))
        self._waiting.extendleft(reversed(pieces))
        self._assign()


def _connect(init: Mapping[str, object]) -> None:
    """Connects to a cluster, or starts one; quietly, unless the user wants it otherwise."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _look_for(init)
    calm = {"include_dashboard": False, "logging_level": logging.ERROR}
    with _kept_sigterm():
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
def _kept_sigterm() -> Iterator[None]:
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


def _free() -> str:
    free = ray.available_resources()
    return f"free are {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"


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
