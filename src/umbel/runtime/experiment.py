"""What is run, as one value: a strategy for so many rounds, and what of its clients' answers is believed.

Whatever the runtime asks a strategy once, before the first round, is asked here. Knows no store and no transport.
"""

from __future__ import annotations

from dataclasses import dataclass

from umbel.aggregators import Aggregator
from umbel.config import ServerConfig
from umbel.pace import Pace
from umbel.reports import Room
from umbel.rounds.coordinator import Rules
from umbel.runtime.contents import Contents
from umbel.runtime.fingerprints import Fingerprint, fingerprint
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.base import Strategy
from umbel.strategies.classic.adapter import host_of
from umbel.strategies.clients import ClientManager
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.host import Declared, Host
from umbel.strategies.server import refuse_own_rounds

__all__ = ["Experiment", "design_experiment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A strategy for so many rounds, and its pace within the caller's timeout. `max_examples`, `max_bytes` and `room` bound
    what a client's answer may bring.
    """

    host: Host
    num_rounds: int
    seed: int
    max_examples: int
    max_bytes: int | None
    room: Room
    pace: Pace

    @property
    def declared(self) -> Declared:
        """What the strategy has declared."""
        return self.host.declared

    @property
    def aggregator(self) -> Aggregator | None:
        """By which workers may fold updates before anyone has seen them; None where each is needed by itself."""
        return self.declared.adds_up(self.pace)

    @property
    def closes_early(self) -> bool:
        """Whether an exchange may close before all have answered, so that no answer may wait for another's."""
        paces = [self.pace, *(exchange.pace for exchange in self.declared.exchanges if exchange.pace is not None)]
        return any(pace.goal is not None or pace.deadline is not None for pace in paces)

    def rules(self, run: str, min_available: int | None = None) -> Rules:
        """The rules of the run of this name; None takes the strategy's word for how many clients must be there."""
        least = self.declared.min_available if min_available is None else min_available
        return Rules(run=run, min_available=least, pace=self.pace, exchanges=self.declared.exchanges)

    def model(self, contents: Contents) -> GlobalModel:
        """The model that is trained, in these contents."""
        return GlobalModel(
            contents,
            receives=self.declared.receives,
            max_examples=self.max_examples,
            max_bytes=self.max_bytes,
            slots=self.declared.slots,
            transforms=self.declared.transforms,
            parts=self.declared.parts,
            room=self.room,
        )

    def fingerprint(self, port: int | None = None) -> Fingerprint:
        """What makes another start the same run."""
        return fingerprint(self.declared, self.pace, seed=self.seed, num_rounds=self.num_rounds, port=port)


def design_experiment(
    strategy: Strategy | Algorithm | None,
    manager: ClientManager | None,
    config: ServerConfig | None,
    *,
    server: object = None,
    seed: int,
    max_examples: int,
    max_bytes: int | None,
    room: Room,
) -> Experiment:
    """What these arguments of a front door say; FedAvg where no strategy is given.

    Raises `StrategyError` for a server with rounds of its own and for declarations that are none, and `ValueError` for
    transforms that do not go with the strategy.
    """
    refuse_own_rounds(server)
    theirs = getattr(server, "strategy", None)
    if server is not None and strategy is not None:
        logger.warning("server= and strategy= were both given; the server's strategy is used")
    if manager is None:  # an empty one is false
        manager = getattr(server, "client_manager", None)
    host = host_of(theirs or strategy or FedAvg(), manager)
    settings = config or ServerConfig()
    return Experiment(
        host=host,
        num_rounds=settings.num_rounds,
        seed=seed,
        max_examples=max_examples,
        max_bytes=max_bytes,
        room=room,
        pace=host.declared.pace.within(settings.round_timeout),
    )
