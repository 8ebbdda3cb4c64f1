"""Starting a simulation."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from umbel.callbacks.base import Callback
from umbel.callbacks.stopping import with_stopping
from umbel.callbacks.trackers import TrackerName
from umbel.callbacks.watching import gather_watchers
from umbel.config import ServerConfig
from umbel.errors import SimulationError, StoreError
from umbel.events import Observer
from umbel.keywords import checked_raising
from umbel.reports import MAX_METRICS, MAX_METRICS_SIZE, Room
from umbel.rounds.messages import Populated
from umbel.runtime.assembly import Federation, carry_out
from umbel.runtime.begun import Begun
from umbel.runtime.contents import Contents
from umbel.runtime.damage import find_damage
from umbel.runtime.experiment import Experiment, design_experiment
from umbel.runtime.ignored_keywords import name_ignored
from umbel.runtime.interactive import one_line
from umbel.runtime.log import configure, logger
from umbel.runtime.observers.console import Console
from umbel.runtime.observers.history import History
from umbel.runtime.observers.progress import Progress, somebody_watches
from umbel.runtime.process import prepare
from umbel.runtime.resume import restore
from umbel.runtime.run import NAG_EVERY, Clock
from umbel.runtime.run_registry import OpenedRun, open_run
from umbel.runtime.seeding import keep_generators
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.stores.rounds import RoundStore
from umbel.runtime.threads import cap_threads
from umbel.runtime.transports.simulated.pieces import Work
from umbel.runtime.transports.simulated.states import States
from umbel.runtime.transports.simulated.transport import SimulatedTransport
from umbel.runtime.transports.simulated.virtual import Durations, VirtualTime
from umbel.secret import Simulated
from umbel.simulation.checks import check_cohort, check_maker, demand_parameters, population_of
from umbel.simulation.crews import Backend, Wishes, crew_for
from umbel.simulation.resources import client_needs
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.base import Strategy
from umbel.strategies.clients import ClientManager
from umbel.training import ClientFn

__all__ = ["start_simulation"]

# How many simulations of each fingerprint this process has ended: a script may have several that differ in code only.
_ended: Counter[str] = Counter()


@checked_raising(SimulationError)
def start_simulation(
    *,
    client_fn: ClientFn,
    num_clients: int | None = None,
    clients_ids: Sequence[str] | None = None,
    config: ServerConfig | None = None,
    strategy: Strategy | Algorithm | None = None,
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
      "auto", which begins inline and moves to processes once they pay and are ready. None changes a bit of the result.
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

    Returns the `History`. Ctrl-C ends the script, also one with a loop of simulations: it prints the History of the rounds
    so far, and exits with 130; or it ends a notebook's cell by a `KeyboardInterrupt` whose `history` has it. Raises
    `SimulationError` before the first round for what cannot work, `QuorumNotMet` where too few clients answer, `NotFinite`
    after three void rounds in a row, and whatever the strategy raises.
    """
    configure()
    name_ignored(
        "start_simulation",
        keep_initialised=keep_initialised,
        actor_type=actor_type,
        actor_kwargs=actor_kwargs,
        actor_scheduling=actor_scheduling,
    )
    experiment = design_experiment(
        strategy,
        client_manager,
        config,
        server=server,
        seed=seed,
        max_examples=max_examples,
        max_bytes=max_bytes,
        room=Room(max_metrics, max_metrics_size),
    )
    model_maker = getattr(client_fn, "model_maker", None)  # as the clients of umbel.frameworks have
    make_model = model_maker(seed) if callable(model_maker) else None
    watchers = gather_watchers(observers, callbacks, report_to, make_model)
    experiment = replace(experiment, pace=with_stopping(experiment.pace, watchers.callbacks))
    clients = population_of(num_clients, clients_ids)
    check_cohort(experiment.declared.needs, clients.size)
    check_maker(client_fn)
    cpus, gpus = client_needs(client_resources)
    prepare()
    aggregator = experiment.aggregator if durations is None else None
    aggregator = aggregator if aggregator is not None and aggregator.travels else None
    singly = experiment.closes_early or durations is not None
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
    with contextlib.ExitStack() as ends:
        ends.enter_context(keep_generators())
        ends.enter_context(cap_threads(threads))
        mine = experiment.fingerprint() | _particulars(clients, threads)
        kind = json.dumps(mine | {"start": None}, sort_keys=True, default=repr)
        ends.enter_context(one_line())
        opened = None if store is None else open_run(store, mine | {"simulations before it": _ended[kind]}, fresh=fresh)
        if opened is not None:
            ends.callback(opened.close)
        folding = aggregator, experiment.declared.transforms.makers, experiment.declared.aggregators_beside
        crew, contents = crew_for(wishes, Work(client_fn, seed, clients.size, *folding))
        ends.callback(contents.close)  # a round of single updates may lie on the disk
        ends.callback(crew.close)
        said = "inline" if crew.here else f"{crew.slots} workers"
        settings = config or ServerConfig()
        logger.info("Umbel simulation of %s clients, %s, seed %d, %s", f"{clients.size:,}", said, seed, settings)
        begun, states = _begin(experiment, opened, contents)
        ends.callback(states.close)
        inside = SimulatedTransport(
            clients,
            crew,
            contents,
            states=states,
            folds=aggregator is not None,
            keeps=experiment.declared.receives != "sum",
            singly=singly,
            deadline=experiment.pace.deadline if durations is None else None,
            defers=durations is not None,
            room=experiment.room,
        )
        timed = None if durations is None else VirtualTime(inside, durations, start=begun.restored.at)
        secret = Simulated(seed, "server")
        federation = Federation(
            transport=timed or inside,
            clock=timed or Clock(begun.restored.at),
            secret=secret,
            everyone=clients,
            take_sum=inside.sums.take,
            in_user_code=lambda: inside.in_user_code,
            nag_every=NAG_EVERY if timed is None else math.inf,  # nobody waits for time that is told
        )
        by_bar = somebody_watches() if progress is None else progress
        display = Progress(experiment.num_rounds) if by_bar else Console()
        with watchers.following(begun.restored.history) as versions:
            ended = carry_out(
                experiment,
                begun,
                federation,
                display=display,
                observers=watchers.observers,
                versions=versions,
                demands=[demand_parameters],
            )
        _ended.update([kind])
        ended.say()
        if secret.used or inside.noise:
            logger.warning("Simulated noise, no protection: it follows from the seed, and whoever knows that subtracts it")
        history = ended.leave()
        history.keep(make_model=make_model)
        return history


def _begin(experiment: Experiment, opened: OpenedRun | None, contents: Contents) -> tuple[Begun, States]:
    """A simulation where it begins, or goes on with its model in these contents; and where clients' states are."""
    if opened is None:
        new = restore(None, experiment.rules("simulation"), experiment.num_rounds)
        memory = MemoryStore(contents)
        return Begun(restored=new, store=memory, model=experiment.model(contents), lost=None, opened=None), States()
    from umbel.runtime.stores.sql import SqlStore

    durable = opened.store
    assert isinstance(durable, SqlStore)
    restored = restore(opened.stored, experiment.rules(opened.run), experiment.num_rounds)
    state = restored.coordinator.state
    lost, with_state = find_damage(experiment.model(durable.contents), state), durable.with_state()
    if lost is not None and state.version in lost.versions and with_state:
        raise StoreError(
            f"the newest model of run {opened.run} is lost, and what its {len(with_state):,} clients keep is of that time: "
            "the run cannot go back. Put back a copy of the file and start again, or begin anew with fresh=True"
        )
    states = States(durable.state_of, with_state)
    store = RoundStore(durable, contents, states, experiment.declared.slots)
    store.bring(state, lost)
    return Begun(restored=restored, store=store, model=experiment.model(contents), lost=lost, opened=opened), states


def _particulars(clients: Populated, threads: int) -> dict[str, object]:
    """What tells one simulation from another, besides what tells runs apart.

    A thousand runs of one script differ in its arguments.
    """
    names = blake2b("\0".join(clients.names).encode(), digest_size=16).hexdigest() if clients.names else ""
    return {"kind": "simulation", "clients": clients.numbered or names, "threads": threads, "command line": sys.argv[1:]}
