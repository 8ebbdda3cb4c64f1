"""What the classic methods are given, as results of the round that is lent to them. Knows classic values; knows no run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from umbel.dialogue import EvaluateRes, FitRes, GetPropertiesRes
from umbel.dialogue.results import Provenance, Result, Round, current_round
from umbel.population import Clients
from umbel.rounds.messages import Kind
from umbel.strategies.algorithm import Ask, Asking, Pick
from umbel.strategies.base import Answers
from umbel.strategies.classic.standalone import Standalone
from umbel.strategies.clients import ClientManager, ClientProxy, Proxies, SimpleClientManager

__all__ = ["ByManager", "answers_of", "results_of", "round_for"]


class ByManager(Asking):
    """Whom to ask of those that a client manager has; `clients` are those that it has drawn, by name.

    With `samples` the manager draws by itself, as it has always done for a strategy without a selector.
    """

    def __init__(self, manager: ClientManager, exchange: str, kind: Kind, round_: Round, *, samples: bool) -> None:
        self.exchange, self.kind, self.round = exchange, kind, round_
        self.clients: dict[str, ClientProxy] = {}
        self._manager, self._samples = manager, samples
        self.busy, self.rng = 0, np.random.RandomState
        if isinstance(manager, SimpleClientManager):
            self.busy, self.rng = manager.busy, manager.rng

    @property
    def present(self) -> Clients:
        everyone = self._everyone()
        return everyone.present if isinstance(everyone, Proxies) else Clients(0, everyone)

    @property
    def available(self) -> int:
        return self._manager.num_available()

    def draw(self, size: int, needed: int, pick: Pick) -> list[str]:
        if self._samples:
            drawn = {each.cid: each for each in self._manager.sample(num_clients=size, min_num_clients=needed)}
            self.clients |= drawn
            return list(drawn)
        self._manager.wait_for(needed)
        return pick(self.present, size, self.rng)

    def proxies(self, asked: Sequence[Ask]) -> list[ClientProxy]:
        """The clients that are asked."""
        everyone = {} if all(each.client in self.clients for each in asked) else self._everyone()
        return [self.clients.get(each.client) or everyone[each.client] for each in asked]

    def _everyone(self) -> Mapping[str, ClientProxy]:  # `all` makes a proxy for each of a million
        return self._manager.clients if isinstance(self._manager, SimpleClientManager) else self._manager.all()


Response = FitRes | EvaluateRes | GetPropertiesRes


def round_for(
    number: int, results: Sequence[tuple[ClientProxy, FitRes]] = (), standalone: Standalone | None = None
) -> Round:
    """The round that these results are of: the one that is lent, or, where a program calls a method by itself, the one that
    follows what `standalone` has made last.

    A program may call another strategy within a question of the run, on results of its own; these are of another form.
    """
    lent = current_round()
    if standalone is None or not results:
        return lent or Round(number=number)
    known = [res.parameters.provenance for _, res in results if res.parameters.provenance is not None]
    if known:  # also in a thread of somebody's own, to which nothing is lent
        lent = lent or known[0].round
    elif lent is not None and not _is_of(lent, results[0][1]):
        lent = None
    return lent or standalone.round(number, len(results))


def _is_of(lent: Round, res: FitRes) -> bool:
    """Whether parameters that somebody has put in the place of those that were received are an update of this round."""
    if lent.base is None:
        return True
    schema, _ = res.parameters.stream()
    return [spec.shape for spec in schema.specs] == [spec.shape for spec in lent.base[0].specs]


def results_of(results: Iterable[tuple[ClientProxy, Response]], here: Round | None = None) -> list[Result]:
    """Classic results as an algorithm is given them. One whose parameters somebody has replaced has the provenance of
    its client's update.
    """
    provenances = {} if here is None else here.provenances
    return [_result(client, res, place, provenances) for place, (client, res) in enumerate(results)]


def _result(client: ClientProxy, res: Response, place: int, provenances: Mapping[str, Provenance]) -> Result:
    name = getattr(client, "cid", str(place))  # programs that call a method by themselves may have no clients
    match res:
        case FitRes():
            provenance = res.parameters.provenance or provenances.get(name) or Provenance(place)
            return Result(name, res.num_examples, res.metrics, res.parameters, provenance=provenance)
        case EvaluateRes():
            return Result(name, res.num_examples, res.metrics, loss=res.loss)
        case _:
            return Result(name, 0, res.properties)


def answers_of(answers: Answers) -> dict[str, list[Result]]:
    """The answers of earlier exchanges, as an algorithm is given them."""
    return {name: results_of(given) for name, given in answers.items()}
