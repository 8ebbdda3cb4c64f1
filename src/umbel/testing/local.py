"""A whole run in this process, by the loop that a server runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from umbel.context import Context
from umbel.params import NDArrays
from umbel.reports import MAX_METRICS, MAX_METRICS_SIZE, Room
from umbel.rounds.coordinator import Coordinator, Phase, Rules, State
from umbel.rounds.events import Event
from umbel.rounds.messages import Populated, Resumed, Started
from umbel.runtime.damage import find_damage
from umbel.runtime.model import GlobalModel
from umbel.runtime.observers.history import History
from umbel.runtime.owner import Owner
from umbel.runtime.run import Clock, run
from umbel.runtime.stores.base import Store
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.base import Proxy
from umbel.runtime.transports.simulated.inline import InlineCrew
from umbel.runtime.transports.simulated.pieces import Work
from umbel.runtime.transports.simulated.states import States
from umbel.runtime.transports.simulated.transport import SimulatedTransport
from umbel.secret import Simulated
from umbel.strategies.base import Strategy, round_of
from umbel.strategies.classic import receives_of, slots_of, transforms_of
from umbel.strategies.clients import ClientManager, SimpleClientManager
from umbel.training import Client, ClientFn, NumPyClient, make_client

__all__ = ["LocalRun", "run_locally"]


@dataclass(slots=True)
class LocalRun:
    """What is left of a run: its history, the final model, and every event."""

    history: History
    arrays: NDArrays
    coordinator: Coordinator
    events: list[Event] = field(default_factory=list)


def run_locally(
    strategy: Strategy,
    clients: Mapping[str, Client | NumPyClient | ClientFn],
    *,
    num_rounds: int = 1,
    round_timeout: float | None = None,
    seed: int = 0,
    store: Store | None = None,
    client_manager: ClientManager | None = None,
    coordinator: Coordinator | None = None,
    max_examples: int = 10**7,
    max_bytes: int | None = None,
    max_metrics: int = MAX_METRICS,
    max_metrics_size: int = MAX_METRICS_SIZE,
) -> LocalRun:
    """Runs `num_rounds` of `strategy` with these clients, one task after another; raises what the strategy raises.

    All clients are there before the first is chosen, so the same arguments give the same run; a strategy that asks for more
    ends it with a `StrategyError`. Unlike in a simulation, each client is one object for the whole run.

    `coordinator` continues a run from its state, with what `store` has of its contents; `arrays` is empty where the run
    ended without a model.
    """
    kept = store or MemoryStore()
    pace = strategy.pace.within(round_timeout)
    rules = Rules(run="run", min_available=len(clients), pace=pace, exchanges=round_of(strategy))
    coordinator = coordinator or Coordinator(rules, State(num_rounds=num_rounds))
    model = GlobalModel(
        kept.contents,
        receives=receives_of(strategy),
        max_examples=max_examples,
        max_bytes=max_bytes,
        slots=slots_of(strategy),
        transforms=transforms_of(strategy),
        room=Room(max_metrics, max_metrics_size),
    )
    state = coordinator.state
    lost = find_damage(model, state)
    model.keep_only(state, state.versions | state.spare)
    made = {name: make_client(source, Context(node_id=name)) for name, source in clients.items()}
    work = Work(lambda context: made[context.node_id], seed, len(made), None)
    everyone = Populated(0, tuple(made))
    transport = SimulatedTransport(
        everyone,
        InlineCrew(work, kept.contents),
        kept.contents,
        states=States(),
        folds=False,
        singly=True,
        deadline=pace.deadline,
    )
    history, seen = History(), list[Event]()
    run(
        coordinator=coordinator,
        owner=Owner(
            strategy,
            client_manager or SimpleClientManager(),
            model,
            seed=seed,
            proxy=lambda name: Proxy(name, transport),
            population=len(clients),
            history=history,
            room=Room(max_metrics, max_metrics_size),
            secret=Simulated(seed, "server"),
        ),
        model=model,
        store=kept,
        transport=transport,
        history=history,
        lost=lost,
        observers=[seen.append],
        clock=Clock(),
        first=[Started() if coordinator.state.phase is Phase.NEW else Resumed(num_rounds), everyone],
    )
    version = coordinator.state.version
    arrays = [] if version is None else model.arrays(version)
    return LocalRun(history, arrays, coordinator, seen)
