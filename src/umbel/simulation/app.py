"""Starting a simulation."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

from umbel.callbacks.base import Callback
from umbel.callbacks.calls import observers_of
from umbel.callbacks.course import Course
from umbel.callbacks.stopping import with_stopping
from umbel.callbacks.trackers import TrackerName, trackers_of
from umbel.config import ServerConfig
from umbel.errors import SimulationError, StoreError
from umbel.events import Observer
from umbel.keywords import checked_raising
from umbel.pace import Pace
from umbel.reports import MAX_METRICS, MAX_METRICS_SIZE, Room
from umbel.rounds.coordinator import Phase, Rules, State
from umbel.rounds.events import Event
from umbel.rounds.messages import Input, Lost, Populated, Resumed, Started, Stopped
from umbel.runtime.attributes import Attributes
from umbel.runtime.contents import Contents
from umbel.runtime.damage import find_damage
from umbel.runtime.fingerprints import ATTRIBUTES, fingerprint
from umbel.runtime.interactive import is_script, one_line
from umbel.runtime.log import configure, logger
from umbel.runtime.model import GlobalModel, kept_best
from umbel.runtime.named_once import named_once
from umbel.runtime.observers.audience import Audience
from umbel.runtime.observers.console import Console
from umbel.runtime.observers.history import History
from umbel.runtime.observers.narrator import Narrator
from umbel.runtime.observers.outcome import Outcome
from umbel.runtime.observers.progress import Progress, somebody_watches
from umbel.runtime.observers.table import table
from umbel.runtime.owner import Owner
from umbel.runtime.process import prepare
from umbel.runtime.resume import restored
from umbel.runtime.run import NAG_EVERY, Clock, run
from umbel.runtime.runs import OpenedRun, how_to_go_on, open_run
from umbel.runtime.seeding import kept_generators
from umbel.runtime.signals import Terminated, signals
from umbel.runtime.stores.base import Store
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.stores.rounds import RoundStore
from umbel.runtime.threads import capped_threads
from umbel.runtime.transports.base import Proxy
from umbel.runtime.transports.simulated.pieces import Crew, Work
from umbel.runtime.transports.simulated.states import States
from umbel.runtime.transports.simulated.transport import SimulatedTransport
from umbel.runtime.transports.simulated.virtual import Durations, VirtualTime
from umbel.secret import Simulated
from umbel.simulation.checks import check_cohort, check_extra, check_maker, demand_parameters, population_of, size_of
from umbel.simulation.crews import Backend, Wishes, crew_for
from umbel.simulation.resources import client_needs
from umbel.strategies.base import Strategy, round_of
from umbel.strategies.classic import aggregator_of, receives_of, slots_of, transforms_of
from umbel.strategies.clients import ClientManager, SimpleClientManager
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.server import refuse_own_rounds
from umbel.training import ClientFn

__all__ = ["start_simulation"]

BY_CTRL_C = "stopped by Ctrl-C"

# How many simulations of each fingerprint this process has ended: a script may have several that differ in code only.
_ended: Counter[str] = Counter()


@checked_raising(SimulationError)
def start_simulation(
    *,
    client_fn: ClientFn,
    num_clients: int | None = None,
    clients_ids: Sequence[str] | None = None,
    config: ServerConfig | None = None,
    strategy: Strategy | None = None,
    client_manager: ClientManager | None = None,
    client_resources: Mapping[str, float] | None = None,
    backend: Backend = "auto",
    workers: int | None = None,
    threads: int = 1,
    seed: int = 0,
    store: str | Path | None = None,
    fresh: bool = False,
    progress: bool | None = None,
    durations: Durations | None = None,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[Callback] = (),
    report_to: TrackerName | Sequence[TrackerName] | None = None,
    max_examples: int = 10**7,
    max_bytes: int | None = None,
    max_metrics: int = MAX_METRICS,
    max_metrics_size: int = MAX_METRICS_SIZE,
    ray_init_args: Mapping[str, object] | None = None,
    server: object = None,
    keep_initialised: bool | None = None,
    actor_type: object = None,
    actor_kwargs: object = None,
    actor_scheduling: object = None,
) -> History:
    """Runs `config.num_rounds` rounds of `strategy` (FedAvg where none is given) with simulated clients.

    - `client_fn(context)` or `client_fn(cid: str)` makes a `NumPyClient` or a `Client`, anew for each task; what it is to
      keep between rounds belongs into `context.state`.
    - `num_clients` (named "0", "1", …) or `clients_ids`, their names: one of them. Nothing is made for a client that is not
      sampled, so there may be a million.
    - `backend`: "inline" (in this process, one client after another: a debugger works), "processes" (`workers` of them, as
      many as processors where None), "ray" (the cluster of `ray.init(**ray_init_args)`, or the one that is up already), or
      "auto", which begins inline and moves to processes once they pay. None of them changes a bit of the result.
    - `client_resources`: what a client needs, as {"num_cpus": 1, "num_gpus": 0.25}; decides how many run side by side.
    - `threads`: how many threads numerical libraries use within a client. The bits depend on it.
    - `seed`: everything drawn follows from it: who is sampled and, since `random`, numpy, torch, tensorflow, mlx and mxnet
      are seeded before each task, what ordinary client code draws.
    - `store`: the folder (or SQLAlchemy URL) that keeps the run after each round, or from the hundredth on as often as that
      takes a tenth of the time; a run that was killed goes on when the same script is started again, unless `fresh`, and
      ends in the same bits. None keeps nothing.
    - `durations(client, round)`: how many seconds a client takes for a task, as simulated. Nobody waits for them: answers
      come in the order of their times, and `round_timeout`, over-selection and asynchronous strategies go by them.
    - `observers`, `callbacks`, `report_to`: as in `start_server`.
    - `max_examples`, `max_bytes`, `max_metrics`, `max_metrics_size`: as in `start_server`.
    - `progress`: a bar instead of lines; None shows it on a terminal and in notebooks.

    Returns the `History`, also after Ctrl-C: then of the rounds so far. Raises `SimulationError` before the first round for
    what cannot work, `QuorumNotMet` where too few clients answer, `NotFinite` after three void rounds in a row, and whatever
    the strategy raises.
    """
    configure()
    check_extra()
    named_once(
        "start_simulation",
        keep_initialised=keep_initialised,
        actor_type=actor_type,
        actor_kwargs=actor_kwargs,
        actor_scheduling=actor_scheduling,
    )
    refuse_own_rounds(server)
    chosen = getattr(server, "strategy", None) or strategy or FedAvg()
    manager = client_manager or getattr(server, "client_manager", None) or SimpleClientManager()
    settings = config or ServerConfig()
    told = [*callbacks, *trackers_of(report_to or ())]
    course = Course()
    pace = with_stopping(chosen.pace.within(settings.round_timeout), told)
    clients = population_of(num_clients, clients_ids)
    check_cohort(chosen, size_of(clients))
    check_maker(client_fn)
    cpus, gpus = client_needs(client_resources)
    prepare()
    aggregator = aggregator_of(chosen, pace) if durations is None else None
    aggregator = aggregator if aggregator is not None and aggregator.travels else None
    makers = transforms_of(chosen).makers
    paces = [pace, *(exchange.pace for exchange in round_of(chosen) if exchange.pace is not None)]
    singly = any(map(_closes_early, paces)) or durations is not None
    wishes = Wishes(
        backend=backend,
        workers=workers,
        threads=threads,
        cpus=cpus,
        gpus=gpus,
        first=clients.names[0] if clients.names else "0",
        singly=singly,
        ray=dict(ray_init_args or {}),
    )
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(kept_generators())
        cleanup.enter_context(capped_threads(threads))
        mine = fingerprint(chosen, pace, seed=seed, num_rounds=settings.num_rounds) | _particulars(clients, threads)
        kind = json.dumps(mine | {"start": None}, sort_keys=True, default=repr)
        cleanup.enter_context(one_line())
        opened = None if store is None else open_run(store, mine | {"simulations before it": _ended[kind]}, fresh=fresh)
        if opened is not None:
            cleanup.callback(opened.close)
        crew, contents = crew_for(wishes, Work(client_fn, seed, size_of(clients), aggregator, makers))
        cleanup.callback(contents.close)  # a round of single updates may lie on the disk
        cleanup.callback(crew.close)
        said = "inline" if crew.here else f"{crew.slots} workers"
        logger.info("Umbel simulation of %s clients, %s, seed %d, %s", f"{size_of(clients):,}", said, seed, settings)
        simulation = _Simulation(
            strategy=chosen,
            manager=manager,
            pace=pace,
            clients=clients,
            seed=seed,
            num_rounds=settings.num_rounds,
            folds=aggregator is not None,
            singly=singly,
            durations=durations,
            max_examples=max_examples,
            max_bytes=max_bytes,
            room=Room(max_metrics, max_metrics_size),
            audience=cleanup.enter_context(Audience([*observers, *observers_of(told, course)])),
            course=course,
        )
        by_bar = somebody_watches() if progress is None else progress
        try:
            return simulation.run(opened, crew, contents, by_bar=by_bar, ended=lambda: _ended.update([kind]))
        except Terminated:
            kept = "the run is kept, and goes on when the same script is started again"
            logger.info("SIGTERM: %s", kept if opened is not None else "nothing of the run is kept; store= would keep it")
            if is_script():
                raise SystemExit(143) from None
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Simulation:
    """What is simulated; where and how is told to `run`."""

    strategy: Strategy
    manager: ClientManager
    pace: Pace
    clients: Populated
    seed: int
    num_rounds: int
    folds: bool
    singly: bool
    durations: Durations | None
    max_examples: int
    max_bytes: int | None
    room: Room
    audience: Audience
    course: Course

    def run(
        self, opened: OpenedRun | None, crew: Crew, contents: Contents, *, by_bar: bool, ended: Callable[[], None]
    ) -> History:
        rules = Rules(
            run="simulation" if opened is None else opened.run,
            min_available=self.strategy.min_available_clients,
            pace=self.pace,
            exchanges=round_of(self.strategy),
        )
        stored = None if opened is None else opened.stored
        coordinator, history, untold, at = restored(stored, rules, self.num_rounds)
        self.course.begin(history)
        slots = slots_of(self.strategy)
        states, store, lost = _places(opened, contents, coordinator.state, slots)
        model = GlobalModel(
            contents,
            receives=receives_of(self.strategy),
            max_examples=self.max_examples,
            max_bytes=self.max_bytes,
            slots=slots,
            transforms=transforms_of(self.strategy),
            room=self.room,
        )
        inside = SimulatedTransport(
            self.clients,
            crew,
            contents,
            states=states,
            folds=self.folds,
            keeps=receives_of(self.strategy) != "sum",
            singly=self.singly,
            deadline=self.pace.deadline if self.durations is None else None,
            defers=self.durations is not None,
            room=self.room,
        )
        transport: SimulatedTransport | VirtualTime = inside
        clock: Callable[[], float] = Clock(at)
        if self.durations is not None:
            transport = clock = VirtualTime(inside, self.durations, start=at)
        secret = Simulated(self.seed, "server")
        owner = Owner(
            self.strategy,
            self.manager,
            model,
            seed=self.seed,
            proxy=lambda name: Proxy(name, transport),
            take_sum=inside.sums.take,
            population=size_of(self.clients),
            remedy=how_to_go_on(opened),
            history=history,
            room=self.room,
            secret=secret,
        )
        outcome = Outcome()
        tell = self.audience.tell  # a round that is lost is done again, and told again: nothing is held back for the store
        kept = self.course.versions if self.course.followed else None
        narrator = Narrator(coordinator, history, model, tell, holds=False, versions=kept) if self.audience else None
        attributes = Attributes(self.strategy, partial(store.note, ATTRIBUTES))
        begin: Input = Started() if coordinator.state.phase is Phase.NEW else Resumed(self.num_rounds)
        with contextlib.ExitStack() as shown:
            observe: Callable[[Event], None] = Console().observe
            if by_bar:
                observe = shown.enter_context(Progress(self.num_rounds)).observe
            shown.callback(states.close)
            shown.enter_context(
                signals(
                    stop=lambda: transport.put(Stopped(BY_CTRL_C)),
                    terminate=lambda: transport.put(Terminated()),
                    in_user_code=lambda: owner.busy or transport.in_user_code,
                )
            )
            shown.enter_context(narrator or contextlib.nullcontext())
            run(
                coordinator=coordinator,
                owner=owner,
                model=model,
                store=store,
                transport=transport,
                history=history,
                untold=untold,
                lost=lost,
                observers=[outcome.observe, observe, attributes.observe, demand_parameters],
                clock=clock,
                first=[begin, self.clients],
                nag_every=NAG_EVERY if self.durations is None else math.inf,  # nobody waits for time that is told
                narrator=narrator,
            )
        store.finish(outcome.status)
        ended()
        for line in table(history):
            logger.info("%s", line)
        if secret.used or inside.noise:
            logger.warning("Simulated noise, no protection: it follows from the seed, and whoever knows that subtracts it")
        if opened is not None and opened.folder is not None and coordinator.state.version is not None:
            logger.info("Model: %s", opened.folder / f"{model.name(coordinator.state.version)}.safetensors")
            for text in kept_best(coordinator.state, opened.folder):
                logger.info("%s", text)
        outcome.raise_error()
        return history


def _places(
    opened: OpenedRun | None, contents: Contents, state: State, slots: Sequence[str]
) -> tuple[States, Store, Lost | None]:
    """Where clients' states are, the store, and what it has lost; with the model in its place, for a run that goes on."""
    if opened is None:
        return States(), MemoryStore(contents), None
    from umbel.runtime.stores.sql import SqlStore

    durable = opened.store
    assert isinstance(durable, SqlStore)
    lost = find_damage(GlobalModel(durable.contents, receives="anything", max_examples=1, max_bytes=1, slots=slots), state)
    with_state = durable.with_state()
    if lost is not None and state.version in lost.versions and with_state:
        raise StoreError(
            f"the newest model of run {opened.run} is lost, and what its {len(with_state):,} clients keep is of that time: "
            "the run cannot go back. Put back a copy of the file and start again, or begin anew with fresh=True"
        )
    states = States(durable.state_of, with_state)
    store = RoundStore(durable, contents, states, slots)
    store.bring(state, lost)
    return states, store, lost


def _particulars(clients: Populated, threads: int) -> dict[str, object]:
    """What tells one simulation from another, besides what tells runs apart.

    A thousand runs of one script differ in its arguments.
    """
    names = blake2b("\0".join(clients.names).encode(), digest_size=16).hexdigest() if clients.names else ""
    return {"kind": "simulation", "clients": clients.numbered or names, "threads": threads, "command line": sys.argv[1:]}


def _closes_early(pace: Pace) -> bool:
    """Whether a round may close before all have answered, so that nobody's answer may wait for another's."""
    return pace.goal is not None or pace.deadline is not None
