"""What is run, as one value: a strategy for so many rounds, and what of its clients' answers is believed.

Whatever the runtime asks a strategy once, before the first round, is asked here. Knows no store and no transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from umbel.aggregators import Aggregator
from umbel.config import ServerConfig
from umbel.fold import Part
from umbel.pace import Pace
from umbel.reports import Room
from umbel.rounds.coordinator import Rules
from umbel.rounds.exchanges import Exchange
from umbel.runtime.contents import Contents
from umbel.runtime.fingerprints import Fingerprint, fingerprint
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel
from umbel.strategies.algorithm import Algorithm, Receives
from umbel.strategies.base import Strategy
from umbel.strategies.classic import host_of
from umbel.strategies.clients import ClientManager
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.host import Host
from umbel.strategies.server import refuse_own_rounds
from umbel.transforms import Chain

__all__ = ["Experiment", "design_experiment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A strategy and what it has declared; `max_examples`, `max_bytes` and `room` bound what a client's answer may bring."""

    host: Host
    num_rounds: int
    seed: int
    max_examples: int
    max_bytes: int | None
    room: Room
    pace: Pace
    exchanges: tuple[Exchange, ...]
    receives: Receives | None
    slots: tuple[str, ...]
    transforms: Chain
    parts: Mapping[str, Part]

    @property
    def aggregator(self) -> Aggregator | None:
        """By which workers may fold updates before anyone has seen them; None where each is needed by itself."""
        return self.host.declared.adds_up(self.pace)

    @property
    def aggregators_beside(self) -> dict[str, Aggregator]:
        """By which they may fold what updates have beside the model, by part."""
        return self.host.declared.aggregators_beside

    @property
    def closes_early(self) -> bool:
        """Whether an exchange may close before all have answered, so that no answer may wait for another's."""
        paces = [self.pace, *(exchange.pace for exchange in self.exchanges if exchange.pace is not None)]
        return any(pace.goal is not None or pace.deadline is not None for pace in paces)

    def rules(self, run: str, min_available: int | None = None) -> Rules:
        """The rules of the run of this name; None takes the strategy's word for how many clients must be there."""
        least = self.host.declared.min_available if min_available is None else min_available
        return Rules(run=run, min_available=least, pace=self.pace, exchanges=self.exchanges)

    def model(self, contents: Contents) -> GlobalModel:
        """The model that is trained, in these contents."""
        return GlobalModel(
            contents,
            receives=self.receives,
            max_examples=self.max_examples,
            max_bytes=self.max_bytes,
            slots=self.slots,
            transforms=self.transforms,
            parts=self.parts,
            room=self.room,
        )

    def fingerprint(self, port: int | None = None) -> Fingerprint:
        """What makes another start the same run."""
        return fingerprint(self.host.declared, self.pace, seed=self.seed, num_rounds=self.num_rounds, port=port)


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
        exchanges=host.declared.exchanges,
        receives=host.declared.receives,
        slots=host.declared.slots,
        transforms=host.declared.transforms,
        parts=host.declared.parts,
    )
