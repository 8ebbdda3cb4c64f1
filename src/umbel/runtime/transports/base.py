"""What the loop asks of a transport, and a client's proxy on top of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

from umbel.dialogue import (
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    Status,
    scalars,
)
from umbel.door import Door
from umbel.errors import ClientFailed
from umbel.rounds.messages import Failure, Input, Kind, Task, Verdict
from umbel.strategies.clients import ClientProxy
from umbel.training import Answer
from umbel.update import Given

__all__ = ["Proxy", "Transport"]

ASK_TIMEOUT = 60.0  # seconds that a strategy's own question to a client may take, unless it says otherwise


class Transport(Protocol):
    """Reaches clients. Tells of `Joined`, `Left`, `Replied` and `Failed`; nothing else."""

    def receive(self, timeout: float | None) -> Input | None:
        """The next input; None after `timeout` seconds (None: no limit). Only the loop calls it."""

    def put(self, event: Input | BaseException) -> None:
        """Adds an input, or an error that `receive` raises in its place; from any thread."""

    def dispatch(self, task: Task, given: Given, door: Door) -> None:
        """Sends a task to its client, with the contents of these names, by part."""

    def cancel(self, task: Task) -> None:
        """The answer to this task is no longer wanted."""

    def settle(self, task: str, verdict: Verdict, why: str) -> None:
        """Tells the sender what became of its reply."""

    def ask(
        self, client: str, kind: Kind, parameters: Parameters | None, config: Mapping[str, object], timeout: float
    ) -> Answer | Failure:
        """Asks one client something outside of any round, and waits for the answer."""

    def before_asking(self, then: Callable[[], None]) -> None:
        """Calls `then` from now on before `ask` asks, in the thread that does: a client whose answer is not settled may be
        waiting for that, and takes no question before.
        """

    def close(self, why: str, *, over: bool) -> None:
        """Takes leave of the clients: the run is over, or else they should wait for its return."""


class Proxy(ClientProxy):
    """A client behind a transport."""

    def __init__(self, cid: str, transport: Transport) -> None:
        super().__init__(cid)
        self._transport = transport

    def __copy__(self) -> Proxy:
        return self

    def __deepcopy__(self, _: dict[int, object]) -> Proxy:
        """Itself: it stands for the same client, and what is behind it cannot be copied."""
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"the proxy of client {self.cid} is of this run and cannot be pickled; keep its cid instead")

    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None = None, group_id: int | None = None
    ) -> GetPropertiesRes:
        answer = self._ask(Kind.PROPERTIES, None, ins.config, timeout)
        self.properties = answer.metrics
        return GetPropertiesRes(_OK, answer.metrics)

    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None = None, group_id: int | None = None
    ) -> GetParametersRes:
        answer = self._ask(Kind.PARAMETERS, None, ins.config, timeout)
        return GetParametersRes(_OK, Parameters.of(answer.arrays))

    def fit(self, ins: FitIns, timeout: float | None = None, group_id: int | None = None) -> FitRes:
        answer = self._ask(Kind.FIT, ins.parameters, ins.config, timeout)
        return FitRes(_OK, Parameters.of(answer.arrays), answer.num_examples, answer.metrics)

    def evaluate(self, ins: EvaluateIns, timeout: float | None = None, group_id: int | None = None) -> EvaluateRes:
        answer = self._ask(Kind.EVALUATE, ins.parameters, ins.config, timeout)
        return EvaluateRes(_OK, answer.loss, answer.num_examples, answer.metrics)

    def _ask(
        self, kind: Kind, parameters: Parameters | None, config: Mapping[str, object], timeout: float | None
    ) -> Answer:
        limit = ASK_TIMEOUT if timeout is None else timeout
        answer = self._transport.ask(self.cid, kind, parameters, scalars(config), limit)
        if isinstance(answer, Failure):
            raise ClientFailed(f"client {self.cid}: {answer.text}")
        return answer


_OK = Status(Code.OK, "Success")
