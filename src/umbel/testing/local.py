"""A whole run in this process, by the loop that a server runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from umbel.config import ServerConfig
from umbel.context import Context
from umbel.events import Event
from umbel.params import NDArrays
from umbel.reports import MAX_METRICS, MAX_METRICS_SIZE, Room
from umbel.rounds.coordinator import Coordinator, State
from umbel.rounds.messages import Populated
from umbel.runtime.assembly import Federation, carry_out
from umbel.runtime.begun import begin
from umbel.runtime.experiment import design_experiment
from umbel.runtime.observers.history import History
from umbel.runtime.resume import Restored
from umbel.runtime.run import Clock
from umbel.runtime.stores.base import Store
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.simulated.inline import InlineCrew
from umbel.runtime.transports.simulated.pieces import Work
from umbel.runtime.transports.simulated.states import States
from umbel.runtime.transports.simulated.transport import SimulatedTransport
from umbel.secret import Simulated
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.base import Strategy
from umbel.strategies.clients import ClientManager
from umbel.training import Client, ClientFn, NumPyClient, make_client

__all__ = ["LocalRun", "run_locally"]


@dataclass(slots=True)
class LocalRun:
    """What is left of a run: its history, the final model, and every event that an observer is told."""

    history: History
    arrays: NDArrays
    coordinator: Coordinator
    events: list[Event] = field(default_factory=list)


def run_locally(
    strategy: Strategy | Algorithm,
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
    experiment = design_experiment(
        strategy,
        client_manager,
        ServerConfig(num_rounds, round_timeout),
        seed=seed,
        max_examples=max_examples,
        max_bytes=max_bytes,
        room=Room(max_metrics, max_metrics_size),
    )
    kept = store or MemoryStore()
    coordinator = coordinator or Coordinator(experiment.rules("run", len(clients)), State(num_rounds=num_rounds))
    begun = begin(experiment, Restored(coordinator, History(), [], 0.0), kept)
    made = {name: make_client(source, Context(node_id=name)) for name, source in clients.items()}
    crew = InlineCrew(Work(lambda context: made[context.node_id], seed, len(made), None), kept.contents)
    everyone = Populated(0, tuple(made))
    transport = SimulatedTransport(
        everyone, crew, kept.contents, states=States(), folds=False, singly=True, deadline=experiment.pace.deadline
    )
    federation = Federation(
        transport=transport,
        clock=Clock(),
        secret=Simulated(seed, "server"),
        everyone=everyone,
        in_user_code=lambda: True,  # Ctrl-C ends a test, and not a run of it
    )
    seen: list[Event] = []
    carry_out(experiment, begun, federation, observers=[seen.append])
    version = coordinator.state.version
    arrays = [] if version is None else begun.model.arrays(version)
    return LocalRun(begun.restored.history, arrays, coordinator, seen)
