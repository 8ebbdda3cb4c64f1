"""Clients as a strategy sees them: the classic `ClientManager`, `ClientProxy` and `Criterion`. Knows no sockets.

A manager never blocks. Where it has too few clients it raises `NotEnoughClients`, the server waits for them, and the
strategy is asked again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from umbel.dialogue import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Properties,
)
from umbel.population import Clients
from umbel.selectors import sample

__all__ = ["ClientManager", "ClientProxy", "Criterion", "NotEnoughClients", "Proxies", "SimpleClientManager"]


class NotEnoughClients(BaseException):
    """The strategy needs `needed` clients to go on. Not an `Exception`: user code must let it pass."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"{needed} clients are needed")
        self.needed = needed


class ClientProxy(ABC):
    """One client, from the server's side. `cid` is its name; the four requests block until it answers.

    Each request raises `ClientFailed` where the client fails, goes away or stays silent for `timeout` seconds (None: 60).
    """

    def __init__(self, cid: str) -> None:
        self.cid = cid
        self.properties: Properties = {}

    @abstractmethod
    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None = None, group_id: int | None = None
    ) -> GetPropertiesRes:
        """What the client tells of itself."""

    @abstractmethod
    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None = None, group_id: int | None = None
    ) -> GetParametersRes:
        """The client's local parameters."""

    @abstractmethod
    def fit(self, ins: FitIns, timeout: float | None = None, group_id: int | None = None) -> FitRes:
        """Has the client train, outside of any round."""

    @abstractmethod
    def evaluate(self, ins: EvaluateIns, timeout: float | None = None, group_id: int | None = None) -> EvaluateRes:
        """Has the client evaluate, outside of any round."""

    def __repr__(self) -> str:
        return f"ClientProxy(cid={self.cid!r})"


class Criterion(ABC):
    """A condition that a client must meet to be sampled."""

    @abstractmethod
    def select(self, client: ClientProxy) -> bool:
        """Whether this client may be sampled."""


class ClientManager(ABC):
    """Who is there, and who of them is sampled."""

    @abstractmethod
    def num_available(self) -> int:
        """Number of present clients."""

    @abstractmethod
    def register(self, client: ClientProxy) -> bool:
        """Adds a client; False if one of that name is there."""

    @abstractmethod
    def unregister(self, client: ClientProxy) -> None:
        """Removes a client; nothing happens if it is not there."""

    @abstractmethod
    def all(self) -> dict[str, ClientProxy]:
        """All present clients by name."""

    @abstractmethod
    def wait_for(self, num_clients: int, timeout: float | None = None) -> bool:
        """True if `num_clients` are there; raises `NotEnoughClients` otherwise, and the server waits."""

    @abstractmethod
    def sample(
        self, num_clients: int, min_num_clients: int | None = None, criterion: Criterion | None = None
    ) -> list[ClientProxy]:
        """`num_clients` different clients."""


class Proxies(Mapping[str, ClientProxy]):
    """The proxies of everybody who is there, each made when somebody asks for it."""

    def __init__(self, present: Clients, proxy: Callable[[str], ClientProxy]) -> None:
        self.present = present
        self._proxy = proxy

    def __len__(self) -> int:
        return len(self.present)

    def __iter__(self) -> Iterator[str]:
        return iter(self.present)

    def __contains__(self, cid: object) -> bool:
        return cid in self.present

    def __getitem__(self, cid: str) -> ClientProxy:
        if cid not in self.present:
            raise KeyError(cid)
        return self._proxy(cid)


class SimpleClientManager(ClientManager):
    """Samples uniformly, and repeatably: who is drawn depends on the run's seed, the round and the clients' names.

    `rng` makes the generator of a draw, and is set by the server before each question; on its own a manager draws from
    fresh entropy.
    """

    def __init__(self) -> None:
        self.clients: Mapping[str, ClientProxy] = {}
        self.rng: Callable[[], np.random.RandomState] = np.random.RandomState
        self.busy = 0  # clients besides those in `clients` that are at a task of an earlier round

    def __len__(self) -> int:
        return len(self.clients)

    def num_available(self) -> int:
        return len(self.clients)

    def register(self, client: ClientProxy) -> bool:
        if client.cid in self.clients:
            return False
        self.clients = {**self.clients, client.cid: client}
        return True

    def unregister(self, client: ClientProxy) -> None:
        self.clients = {cid: other for cid, other in self.clients.items() if cid != client.cid}

    def all(self) -> dict[str, ClientProxy]:
        return dict(self.clients)

    def wait_for(self, num_clients: int, timeout: float | None = None) -> bool:
        if len(self.clients) + self.busy < num_clients:  # who is at work is there, too
            raise NotEnoughClients(num_clients)
        return True

    def sample(
        self, num_clients: int, min_num_clients: int | None = None, criterion: Criterion | None = None
    ) -> list[ClientProxy]:
        """`num_clients` of those that meet the criterion, in a population's order; empty where fewer do.

        Fewer where others are still at a task of an earlier round.
        """
        self.wait_for(num_clients if min_num_clients is None else min_num_clients)
        able: Iterable[str] = self.clients
        if isinstance(self.clients, Proxies):
            able = self.clients.present
        if criterion is not None:
            able = [cid for cid, client in self.clients.items() if criterion.select(client)]
            if num_clients > len(able):
                return []
        return [self.clients[cid] for cid in sample(able, num_clients, self.rng)]
