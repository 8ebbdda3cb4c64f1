"""Answers the coordinator's questions by asking the owner's code: the strategy and whatever functions it was given.

The only place of the server that calls user code, with `choosing.py`, which asks who takes part. Every answer is an input,
so a resumed run does not ask twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from umbel.accidents import ends_the_run, is_an_end
from umbel.errors import ClientFailed, NotFinite, StoreError, StrategyError, TooFewUpdates
from umbel.exchange import (
    Code,
    EvaluateRes,
    FitRes,
    InSum,
    Parameters,
    Place,
    Status,
    as_text,
    plain_scalar,
    scalars,
)
from umbel.fold import Memory, PartialSum, distance
from umbel.remarks import listening, remark
from umbel.reports import Room
from umbel.rounds.messages import (
    Choose,
    Evaluate,
    Evaluated,
    Failure,
    FailureKind,
    Initialize,
    Initialized,
    Input,
    Kind,
    Reply,
    Step,
    Stepped,
    Summarize,
    Summarized,
    Task,
)
from umbel.runtime.answered import answers_of, contents_of
from umbel.runtime.bounds import keep_names
from umbel.runtime.choosing import Chooser, method_of
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel
from umbel.runtime.notes import Notes
from umbel.runtime.observers.history import History
from umbel.runtime.seeding import seed_generators
from umbel.runtime.spread import spread
from umbel.runtime.stores.codec import writable
from umbel.runtime.void import why_void
from umbel.secret import Secret
from umbel.strategies.base import FailedResult, Strategy, stepping_method
from umbel.strategies.blame import blame
from umbel.strategies.classic import check_model, held_by, receives_of
from umbel.strategies.clients import ClientManager, ClientProxy, NotEnoughClients
from umbel.strategies.facts import Facts
from umbel.strategies.kinds import describe_widened
from umbel.strategies.returned import check_parameters
from umbel.transforms import Totals
from umbel.wire import Schema, short

__all__ = ["Owner", "Question"]

Question = Initialize | Choose | Step | Evaluate | Summarize


class Owner:
    """The strategy, asked on behalf of one run."""

    def __init__(
        self,
        strategy: Strategy,
        manager: ClientManager,
        model: GlobalModel,
        *,
        seed: int,
        proxy: Callable[[str], ClientProxy],
        population: int | None = None,
        take_sum: Callable[[str], PartialSum] | None = None,
        remedy: str = "",
        history: History | None = None,
        room: Room = Room(),  # noqa: B008  # a value
        secret: Callable[[], Secret] = Secret.new,
    ) -> None:
        """`take_sum` gives the sum of an exchange, where workers fold updates. `population` is how many clients there can
        ever be, where that is known. `remedy` says how a run goes on whose owner's code has raised. Metrics whose names
        `history` does not have are kept as far as there is `room`. `secret` gives the run's, from which noise comes.
        """
        self._strategy = strategy
        self._manager = manager
        self._model = model
        self._seed = seed
        self._chooser = Chooser(strategy, manager, model, seed=seed, proxy=proxy, population=population)
        self._take_sum = take_sum
        self._receives = receives_of(strategy)
        self._facts = Facts(held_by(strategy))
        self._remedy = remedy
        self._history = History() if history is None else history
        self._room = room
        self._secret = secret
        self._notes = Notes()
        self.busy = False  # user code may be running

    def answer(self, question: Question) -> Input:
        """The input that answers a question. What the user's code raises passes through, with a line about how to go on."""
        self.busy = True
        try:
            seed_generators(self._seed, "server", type(question).__name__, getattr(question, "round", 0))
            self._lend_facts(question)
            with listening() as heard:
                answered = self._keep_facts(question, self._ask(question))
            return self._notes.noted(answered, heard)
        except StoreError:
            raise
        except BaseException as error:  # also sys.exit(), of which Python itself says nothing
            if self._remedy and not is_an_end(error, os.getpid()):
                logger.error("%s has raised %s. %s", _name_of(self._strategy, question), type(error).__name__, self._remedy)
            raise
        finally:
            self.busy = False

    def _lend_facts(self, question: Question) -> None:
        """Has the strategy remember what the run knows, and nothing that a method which has raised has changed since."""
        if self._facts:
            self._facts.lend(_facts_of(question), writable=not isinstance(question, (Initialize, Choose)))

    def _keep_facts(self, question: Question, answered: Input) -> Input:
        """The answer with the facts that the strategy's method has changed."""
        if not self._facts or not isinstance(answered, (Stepped, Evaluated, Summarized)):
            return answered
        changed = self._facts.take_back(_name_of(self._strategy, question).partition("(")[0], _facts_of(question))
        return answered if changed is None else replace(answered, facts=changed)

    def _ask(self, question: Question) -> Input:
        match question:
            case Initialize():
                return self._initialize()
            case Choose():
                return self._chooser.choose(question)
            case Step():
                return self._step(question)
            case Evaluate(round=number, version=version):
                evaluated = self._strategy.evaluate(number, self._model.parameters(version))
                return Evaluated() if evaluated is None else Evaluated(*_loss_and_metrics("evaluate", evaluated))
            case Summarize():
                loss, metrics = _loss_and_metrics("aggregate_evaluate", self._summarize(question))
                self._model.spend(*_own_contents(question))
                return Summarized(loss, self._limit(Kind.EVALUATE, metrics, question.results))

    def _summarize(self, question: Summarize) -> object:
        """What the clients' evaluations say together; nothing where the strategy's method raises: they may be why."""
        self._notes.not_finite(Kind.EVALUATE, question.results)
        results = [(self._chooser.client(task.client), _evaluate_res(reply)) for task, reply in question.results]
        try:
            return self._strategy.aggregate_evaluate(question.round, results, _as_failures(question.failures))
        except BaseException as error:
            if ends_the_run(error):
                raise
            self._lend_facts(question)
            sent = [(task.client, reply.num_examples, reply.metrics) for task, reply in question.results]
            remark(blame("aggregate_evaluate()", error, sent))
            return None, {}

    def _limit(
        self, kind: Kind, metrics: dict[str, object], results: Sequence[tuple[Task, Reply]]
    ) -> dict[str, object]:
        """The metrics of an exchange, as far as the History has room for their names."""
        sent = {name for _, reply in results for name in reply.metrics}
        watched = self._strategy.pace.watched
        return keep_names(self._history, kind, metrics, sent=sent, room=self._room, always=watched)

    def _initialize(self) -> Initialized:
        try:
            parameters = self._strategy.initialize_parameters(self._manager)
        except NotEnoughClients as wish:
            raise StrategyError(
                f"initialize_parameters() asks for {wish.needed} clients, but it is asked before any can join; "
                "return None, and one client is asked for its parameters"
            ) from None
        if parameters is None:
            return Initialized(False)
        given = check_parameters("initialize_parameters", parameters)
        if not len(given) and self._receives in ("sum", "updates"):
            raise StrategyError(
                "initialize_parameters() returned no arrays; return the model's, or None to ask a client for its own"
            )
        check_model(self._strategy, given.stream()[0])
        self._write(0, "initialize_parameters", parameters, None)
        return Initialized(True)

    def _step(self, question: Step) -> Stepped:
        if question.version is None:  # a client's parameters are the first version
            if not question.results:  # nobody has any
                check_model(self._strategy, Schema(()))
                self._model.write(0, Parameters.of([]))
                return Stepped(0)
            ((_, reply),) = question.results
            assert reply.content is not None
            check_model(self._strategy, self._model.contents.open(reply.content).schema)
            self._model.adopt(0, reply.content)
            return Stepped(0)
        self._notes.not_finite(Kind.FIT, question.results)
        try:
            with self._model.step(question.version, question.round) as memory:
                return self._combine(question, question.version, memory)
        except NotFinite as error:
            self._lend_facts(question)
            void = why_void(error, type(self._strategy).__name__, self._norms(question))
            self._model.spend(*_contents_used(question))
            self._model.forget(question.round)
            return Stepped(question.version, void=void)

    def _combine(self, question: Step, version: int, memory: Memory) -> Stepped:
        """What the strategy makes of the updates. Raises `NotFinite` where the round is void."""
        try:
            failures, results = _as_failures(self._not_recalled(question)), self._results(question, memory)
            answers = answers_of(question.closed, self._chooser.client, self._model.contents)
            returned = self._strategy.aggregate_exchanges(question.round, results, failures, answers)
        except TooFewUpdates as error:
            self._lend_facts(question)
            self._model.spend(*_contents_used(question))
            return Stepped(version, {}, f"{error}; the model stays as it is")
        try:
            parameters, metrics = returned
        except (TypeError, ValueError):
            method = stepping_method(self._strategy)
            raise StrategyError(f"{method}() returned {short(returned)}; return (parameters or None, metrics)") from None
        self._model.spend(*_contents_used(question))
        if parameters is None:
            self._model.forget(question.round)
            return Stepped(version, self._limit(Kind.FIT, _as_metrics(metrics), question.results), _why_kept(question))
        model = None if self._receives == "anything" else self._model.at(version).schema
        self._write(question.round, stepping_method(self._strategy), parameters, model)
        examples = sum(reply.num_examples for _, reply in question.results)
        self._model.advance(version, question.round, Totals(question.round, len(question.results), examples))
        self._model.carry(version, question.round)
        before, after = self._model.at(version).schema, self._model.at(question.round).schema
        kept = self._limit(Kind.FIT, _as_metrics(metrics), question.results)
        return Stepped(question.round, kept, describe_widened(before, after))

    def _write(self, version: int, method: str, given: Parameters, model: Schema | None) -> None:
        """Makes what the strategy's method returned the given version."""
        self._model.write(version, check_parameters(method, given, model))
        given.read_from(self._model.parameters(version))

    def _norms(self, question: Step) -> list[tuple[str, float]]:
        """How far each update is from what its client was given, where that can be told."""
        norms = []
        for task, reply in question.results:
            given = self._model.content_for(task)
            if reply.norm is not UNSET:
                norms.append((task.client, reply.norm))
            elif reply.content is not None and given is not None:
                (ours, read), start = self._model.update(task, reply.content).reader(), self._model.contents.open(given)
                if [spec.shape for spec in ours.specs] == [spec.shape for spec in start.schema.specs]:
                    norms.append((task.client, distance((ours, read), (start.schema, start.source))))
        return norms

    def _not_recalled(self, question: Step) -> list[tuple[Task, Failure]]:
        """The failures, without the tasks that the round did not wait for because it had reached its goal."""
        goal = self._strategy.pace.goal
        reached = goal is not None and len(question.results) >= goal
        return [(task, why) for task, why in question.failures if not (reached and why.kind is FailureKind.LATE)]

    def _results(self, question: Step, memory: Memory) -> list[tuple[ClientProxy, FitRes]]:
        assert question.version is not None
        place = self._place(question.version, question.round, [task.id for task, _ in question.results], memory)
        in_sum = {task.index: reply.num_examples for task, reply in question.results if reply.partial is not None}
        sums: dict[str, tuple[PartialSum, Place]] = {}  # what is there as a sum alone stands in one place, for all its tasks
        results = []
        for task, reply in question.results:
            parameters, at = None, None
            if reply.content is not None:
                parameters, at = self._model.update(task, reply.content), place(task)
            if reply.partial is not None:
                if reply.partial not in sums:
                    sums[reply.partial] = self._sum(reply.partial), at or place(task)
                total, first = sums[reply.partial]
                parameters, at = Parameters.added_up(InSum(total, in_sum, task.index), parameters), at or first
            assert parameters is not None
            if reply.unfit is not UNSET:
                parameters.unfit = reply.unfit
            fitted = FitRes(_OK, parameters, reply.num_examples, scalars(reply.metrics), at)
            results.append((self._chooser.client(task.client), fitted))
        return results

    def _place(self, version: int, number: int, tasks: Sequence[str], memory: Memory) -> Callable[[Task], Place]:
        """Where results of this round stand, but for what their task says."""
        base = self._model.at(version)
        schema, source, facts = base.schema, base.source, self._model.facts(version)

        @cache
        def secret() -> Secret:
            return self._secret().derive("step", number, *tasks)  # other answers are another sum: never the same noise

        def place(task: Task) -> Place:
            start = version if task.version is None else task.version
            origin = None
            if start != version:
                content = self._model.at(start)
                origin = content.schema, content.source
            return Place(
                task.index, task.cohort, schema, source, self._seed, memory, spread, version - start, origin, facts, secret
            )

        return place

    def _sum(self, exchange: str) -> PartialSum:
        assert self._take_sum is not None
        return self._take_sum(exchange)


_OK = Status(Code.OK, "Success")


def _evaluate_res(reply: Reply) -> EvaluateRes:
    return EvaluateRes(_OK, reply.loss, reply.num_examples, scalars(reply.metrics))


def _as_failures(failures: Sequence[tuple[Task, Failure]]) -> list[FailedResult]:
    return [ClientFailed(f"client {task.client}: {failure.text}") for task, failure in failures]


def _name_of(strategy: Strategy, question: Question) -> str:
    """What a question is called in the strategy."""
    match question:
        case Initialize():
            return "initialize_parameters()"
        case Choose(round=number):
            return f"{method_of(question)}() of round {number}"
        case Step(round=number):
            return f"{stepping_method(strategy)}() of round {number}"
        case Evaluate(round=number):
            return f"evaluate() after round {number}"
        case Summarize(round=number):
            return f"aggregate_evaluate() of round {number}"


def _facts_of(question: Question) -> Mapping[str, bool | int | float]:
    """What the strategy remembers in numbers when it is asked this."""
    return {} if isinstance(question, Initialize) or question.facts is UNSET else question.facts


def _loss_and_metrics(method: str, returned: object) -> tuple[object, dict[str, object]]:
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise StrategyError(f"{method}() returned {returned!r}; return (loss, metrics)")
    return _number(method, returned[0]), _as_metrics(returned[1])


def _number(method: str, loss: object) -> object:
    """A loss as a plain number, None for none. Raises `StrategyError` for anything else."""
    plain = plain_scalar(loss.reshape(()) if isinstance(loss, np.ndarray) and loss.size == 1 else loss)
    if plain is None or isinstance(plain, (bool, float)) or (isinstance(plain, int) and -(2**63) <= plain < 2**64):
        return plain
    try:
        if hasattr(plain, "__float__"):  # a Decimal, an integer that is longer than a journal has room for
            return float(plain)
    except (TypeError, ValueError, OverflowError):
        pass
    raise StrategyError(f"{method}() returned the loss {short(loss)}, a {type(loss).__name__}; return a number, or None")


def _as_metrics(metrics: object) -> dict[str, object]:
    """Metrics as a journal can write them: names are text, values whatever they are."""
    if metrics is not None and not isinstance(metrics, Mapping):
        raise StrategyError(f"metrics are a dict, {{}} for none; got {metrics!r}")
    return {as_text(name): writable(value) for name, value in (metrics or {}).items()}


def _contents_used(question: Step) -> list[str]:
    replies = (reply.content for _, reply in question.results if reply.content is not None)
    return [*_own_contents(question), *replies, *contents_of(question.closed)]


def _own_contents(question: Step | Summarize) -> list[str]:
    tasks = [task for task, _ in (*question.results, *question.failures)]
    return [task.content for task in tasks if task.content is not None]


def _why_kept(question: Step) -> str:
    if not question.results:
        return "no update came; the model stays as it is"
    if all(reply.num_examples == 0 for _, reply in question.results):
        return "every num_examples is 0; the model stays as it is"
    return "the strategy made no new parameters; the model stays as it is"
