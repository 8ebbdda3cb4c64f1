"""Which crew does the work: what was wished, and what this machine has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from umbel.accidents import is_an_end, message_of
from umbel.aggregators import chunk_size
from umbel.errors import SimulationError
from umbel.runtime.transports.simulated.auto import AutoCrew
from umbel.runtime.transports.simulated.crew import RemoteCrew, Yard
from umbel.runtime.transports.simulated.inline import InlineCrew
from umbel.runtime.transports.simulated.pieces import Crew, Work
from umbel.runtime.transports.simulated.shared import SharedContents
from umbel.simulation.resources import Places, gpus, places, processors

__all__ = ["Backend", "Wishes", "crew_for"]

Backend = Literal["auto", "inline", "processes", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a user said about workers. `first` is the client that is made for a trial; `singly` that every task travels by
    itself.
    """

    backend: Backend
    workers: int | None
    threads: int
    cpus: float
    gpus: float
    first: str
    singly: bool
    ray: Mapping[str, object]


def crew_for(wishes: Wishes, work: Work) -> tuple[Crew, SharedContents]:
    """A crew that has made one client for a trial, and the contents that it works with. Raises `SimulationError`."""
    if wishes.backend not in get_args(Backend):
        raise SimulationError(f"backend={wishes.backend!r}; it is one of {', '.join(map(repr, get_args(Backend)))}")
    if wishes.backend == "ray":
        return _ray(wishes, work)
    found = places(
        wishes.cpus,
        wishes.gpus,
        workers=wishes.workers,
        available_cpus=processors(),
        available_gpus=gpus() if wishes.gpus else (),
    )
    if wishes.backend == "inline":
        contents = SharedContents()
        return _inline(wishes, work, contents), contents
    if wishes.backend == "auto" and found.devices is None:
        return _auto(wishes, work, found)
    contents = SharedContents()
    return _try_first(wishes, _processes(wishes, work, found, contents)), contents


def _inline(wishes: Wishes, work: Work, contents: SharedContents) -> InlineCrew:
    crew = InlineCrew(work, contents)
    try:
        crew.try_client(wishes.first)
    except TypeError as error:
        if str(error).startswith("client_fn returned"):
            raise SimulationError(str(error)) from None
        raise SimulationError(_describe(wishes.first, error)) from error
    except BaseException as error:  # user code raises what it likes
        if is_an_end(error, os.getpid()):
            raise
        raise SimulationError(_describe(wishes.first, error)) from error
    return crew


def _auto(wishes: Wishes, work: Work, found: Places) -> tuple[Crew, SharedContents]:
    contents = SharedContents()
    inline = _inline(wishes, work, contents)
    if found.slots == 1:
        return inline, contents
    crew: Crew = AutoCrew(inline, lambda: _processes(wishes, work, found, contents), wishes.first)
    return crew, contents


def _processes(wishes: Wishes, work: Work, found: Places, contents: SharedContents) -> RemoteCrew:
    from umbel.runtime.transports.simulated.processes import ProcessYard

    yard = ProcessYard(work, contents, slots=found.slots, threads=wishes.threads, devices=found.devices)
    return _remote(wishes, work, yard, contents)


def _ray(wishes: Wishes, work: Work) -> tuple[Crew, SharedContents]:
    from umbel.runtime.transports.simulated.ray import RayYard

    contents = SharedContents()
    most = -(-work.population // (1 if wishes.singly else chunk_size(work.population)))  # pieces of a round
    yard = RayYard(
        work,
        contents,
        cpus=wishes.cpus,
        gpus=wishes.gpus,
        workers=wishes.workers,
        useful=most,
        threads=wishes.threads,
        init=wishes.ray,
    )
    return _try_first(wishes, _remote(wishes, work, yard, contents)), contents


def _remote(wishes: Wishes, work: Work, yard: Yard, contents: SharedContents) -> RemoteCrew:
    return RemoteCrew(yard, contents, work.aggregator, ahead=1 if wishes.singly else 2, beside=work.beside)


def _try_first(wishes: Wishes, crew: RemoteCrew) -> RemoteCrew:
    """The crew, one of whose hands has made a client for a trial."""
    try:
        crew.try_client(wishes.first)
    except BaseException:
        crew.close()
        raise
    return crew


def _describe(client: str, error: BaseException) -> str:
    return f"client_fn raised {type(error).__name__} for client {client}: {message_of(error)}"
