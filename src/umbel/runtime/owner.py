"""Answers the coordinator's questions by asking the owner's code: the strategy and whatever functions it was given.

The only place of the server that calls user code, with `choosing.py`, which asks who takes part. It knows the questions, and
not what a strategy is: a `Host` does. Every answer is an input, so a resumed run does not ask twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from umbel.accidents import ends_the_run, is_an_end
from umbel.dialogue import Parameters, as_text, plain_scalar, scalars
from umbel.dialogue.results import Provenance, Result, Round
from umbel.errors import ClientFailed, NotFinite, StoreError, StrategyError, TooFewUpdates
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
from umbel.runtime.choosing import Chooser
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel
from umbel.runtime.notes import Notes
from umbel.runtime.observers.history import History
from umbel.runtime.seeding import seed_generators
from umbel.runtime.spread import spread
from umbel.runtime.stores.codec import writable
from umbel.runtime.void import why_void
from umbel.secret import Secret
from umbel.strategies.blame import blame
from umbel.strategies.clients import ClientProxy
from umbel.strategies.host import Host
from umbel.strategies.kinds import describe_widened
from umbel.strategies.returned import check_parameters
from umbel.transforms import Totals
from umbel.wire import Schema, Source, short

__all__ = ["Owner", "Question"]

Question = Initialize | Choose | Step | Evaluate | Summarize


class Owner:
    """The strategy, asked on behalf of one run."""

    def __init__(
        self,
        host: Host,
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
        host.begin(proxy)
        self._host = host
        self._model = model
        self._seed = seed
        self._chooser = Chooser(host, model, seed=seed, population=population)
        self._take_sum = take_sum
        self._receives = host.declared.receives
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
            with listening() as heard:
                answered = self._keep_facts(question, self._ask(question))
            return self._notes.add_to(answered, heard)
        except StoreError:
            raise
        except BaseException as error:  # also sys.exit(), of which Python itself says nothing
            if self._remedy and not is_an_end(error, os.getpid()):
                logger.error("%s has raised %s. %s", self._name_of(question), type(error).__name__, self._remedy)
            raise
        finally:
            self.busy = False

    def _lend_facts(self, question: Question) -> Mapping[str, bool | int | float]:
        """Has the strategy remember what the run knows, and nothing that a method which has raised has changed since."""
        return self._host.lend(_facts_of(question), writable=not isinstance(question, (Initialize, Choose)))

    def _keep_facts(self, question: Question, answered: Input) -> Input:
        """The answer with the facts that the strategy's method has changed."""
        if not isinstance(answered, (Stepped, Evaluated, Summarized)):
            return answered
        changed = self._host.take_back(self._name_of(question).partition("(")[0], _facts_of(question))
        return answered if changed is None else replace(answered, facts=changed)

    def _ask(self, question: Question) -> Input:
        facts, names = self._lend_facts(question), self._host.declared.names
        match question:
            case Initialize():
                return self._initialize()
            case Choose():
                answers = answers_of(question.closed, self._model.contents)
                here = Round(number=question.round, base=self._base(question.version), facts=facts, answers=answers)
                return self._chooser.choose(question, here)
            case Step():
                return self._step(question, facts)
            case Evaluate(round=number, version=version):
                here = Round(number=number, base=self._base(version), facts=facts)
                evaluated = self._host.evaluate(here, self._model.parameters(version))
                return Evaluated() if evaluated is None else Evaluated(*_loss_and_metrics(names.evaluate, evaluated))
            case Summarize():
                here = Round(number=question.round, facts=facts)
                loss, metrics = _loss_and_metrics(names.summarize, self._summarize(question, here))
                self._model.spend(*_own_contents(question))
                return Summarized(loss, self._limit(Kind.EVALUATE, metrics, question.results))

    def _base(self, version: int) -> tuple[Schema, Source]:
        content = self._model.at(version)
        return content.schema, content.source

    def _name_of(self, question: Question) -> str:
        """What a question is called in the strategy."""
        names = self._host.declared.names
        match question:
            case Initialize():
                return f"{names.initialize}()"
            case Choose():
                return f"{names.configured(question.name)}() of round {question.round}"
            case Step():
                return f"{names.step}() of round {question.round}"
            case Evaluate():
                return f"{names.evaluate}() after round {question.round}"
            case Summarize():
                return f"{names.summarize}() of round {question.round}"

    def _summarize(self, question: Summarize, here: Round) -> object:
        """What the clients' evaluations say together; nothing where the strategy's method raises: they may be why."""
        self._notes.not_finite(Kind.EVALUATE, question.results)
        results = [
            Result(task.client, reply.num_examples, scalars(reply.metrics), None, reply.loss)
            for task, reply in question.results
        ]
        try:
            return self._host.summarize(here, results, _as_failures(question.failures))
        except BaseException as error:
            if ends_the_run(error):
                raise
            self._lend_facts(question)
            sent = [(task.client, reply.num_examples, reply.metrics) for task, reply in question.results]
            remark(blame(f"{self._host.declared.names.summarize}()", error, sent))
            return None, {}

    def _limit(
        self, kind: Kind, metrics: dict[str, object], results: Sequence[tuple[Task, Reply]]
    ) -> dict[str, object]:
        """The metrics of an exchange, as far as the History has room for their names."""
        sent = {name for _, reply in results for name in reply.metrics}
        watched = self._host.declared.pace.watched
        return keep_names(self._history, kind, metrics, sent=sent, room=self._room, always=watched)

    def _initialize(self) -> Initialized:
        parameters, method = self._host.initialize(), self._host.declared.names.initialize
        if parameters is None:
            return Initialized(False)
        given = check_parameters(method, parameters)
        if not len(given) and self._receives in ("sum", "updates"):
            raise StrategyError(f"{method}() returned no arrays; return the model's, or None to ask a client for its own")
        self._host.check_model(given.stream()[0])
        self._write(0, method, given, None)
        return Initialized(True)

    def _step(self, question: Step, facts: Mapping[str, bool | int | float]) -> Stepped:
        if question.version is None:  # a client's parameters are the first version
            if not question.results:  # nobody has any
                self._host.check_model(Schema(()))
                self._model.write(0, Parameters.of([]))
                return Stepped(0)
            ((_, reply),) = question.results
            assert reply.content is not None
            self._host.check_model(self._model.contents.open(reply.content).schema)
            self._model.adopt(0, reply.content)
            return Stepped(0)
        self._notes.not_finite(Kind.FIT, question.results)
        try:
            with self._model.step(question.version, question.round) as memory:
                return self._combine(question, self._round(question, question.version, facts, memory))
        except NotFinite as error:
            self._lend_facts(question)
            void = why_void(error, self._host.declared.name, self._norms(question))
            self._model.spend(*_contents_of(question))
            self._model.forget(question.round)
            return Stepped(question.version, void=void)

    def _combine(self, question: Step, here: Round) -> Stepped:
        """What the strategy makes of the updates. Raises `NotFinite` where the round is void."""
        version, method = question.version, self._host.declared.names.step
        assert version is not None
        before = self._model.at(version).schema
        try:
            failures = _as_failures(self._failures_that_count(question))
            parameters, said = self._host.step(here, self._results(question, here), failures)
        except TooFewUpdates as error:
            self._lend_facts(question)
            self._model.spend(*_contents_of(question))
            return Stepped(version, {}, f"{error}; the model stays as it is")
        self._model.spend(*_contents_of(question))
        metrics = self._limit(Kind.FIT, _as_metrics(said), question.results)
        if parameters is None:
            self._model.forget(question.round)
            return Stepped(version, metrics, _why_kept(question))
        self._write(question.round, method, parameters, None if self._receives == "anything" else before)
        examples = sum(reply.num_examples for _, reply in question.results)
        self._model.advance(version, question.round, Totals(question.round, len(question.results), examples))
        self._model.carry(version, question.round)
        return Stepped(question.round, metrics, describe_widened(before, self._model.at(question.round).schema))

    def _write(self, version: int, method: str, given: object, model: Schema | None) -> None:
        """Makes what the strategy's method returned the given version."""
        checked = check_parameters(method, given, model)
        self._model.write(version, checked)
        if isinstance(given, Parameters) and given is not checked:
            given.read_from(checked)

    def _norms(self, question: Step) -> list[tuple[str, float]]:
        """How far each update is from what its client was given, where that can be told."""
        norms = []
        for task, reply in question.results:
            given = self._model.content_for(task)
            if reply.norm is not UNSET:
                norms.append((task.client, reply.norm))
            elif reply.content is not None and given is not None:
                ((ours, _, read), _), start = self._model.update(task, reply.content), self._model.contents.open(given)
                if [spec.shape for spec in ours.specs] == [spec.shape for spec in start.schema.specs]:
                    norms.append((task.client, distance((ours, read), (start.schema, start.source))))
        return norms

    def _failures_that_count(self, question: Step) -> list[tuple[Task, Failure]]:
        """The failures, without the tasks that the round did not wait for because it had reached its goal."""
        if not question.failures:
            return []
        goal = self._host.declared.pace.goal
        reached = goal is not None and len(question.results) >= goal
        return [(task, why) for task, why in question.failures if not (reached and why.kind is FailureKind.LATE)]

    def _round(self, question: Step, version: int, facts: Mapping[str, bool | int | float], memory: Memory) -> Round:
        """What is the same for all results of this round."""
        tasks = [task.id for task, _ in question.results]

        @cache
        def secret() -> Secret:
            return self._secret().derive("step", question.round, *tasks)  # other answers: never the same noise

        return Round(
            number=question.round,
            base=self._base(version),
            cohort=question.results[0][0].cohort if question.results else 0,
            facts=facts,
            answers=answers_of(question.closed, self._model.contents),
            seed=self._seed,
            secret=secret,
            transform_facts=self._model.facts(version),
            memory=memory,
            spread=spread,
        )

    def _results(self, question: Step, here: Round) -> list[Result]:
        assert question.version is not None
        in_sum = {task.index: reply.num_examples for task, reply in question.results if reply.partial is not None}
        sums = {name: self._sum(name) for name in {reply.partial for _, reply in question.results} if name is not None}
        results = []
        for task, reply in question.results:
            start = question.version if task.version is None else task.version
            origin = None if start == question.version else self._base(start)
            total, weights = (None, {}) if reply.partial is None else (sums[reply.partial], in_sum)
            content, beside = (None, {}) if reply.content is None else self._model.update(task, reply.content)
            provenance = Provenance(task.index, question.version - start, origin, total, weights, here, beside)
            parameters = Parameters.received(provenance, content)
            if reply.unfit is not UNSET:
                parameters.unfit = reply.unfit
            metrics = scalars(reply.metrics)
            results.append(Result(task.client, reply.num_examples, metrics, parameters, provenance=provenance))
            here.provenances[task.client] = provenance
        return results

    def _sum(self, exchange: str) -> PartialSum:
        assert self._take_sum is not None
        return self._take_sum(exchange)


def _as_failures(failures: Sequence[tuple[Task, Failure]]) -> list[ClientFailed]:
    return [ClientFailed(f"client {task.client}: {failure.text}") for task, failure in failures]


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


def _contents_of(question: Step) -> list[str]:
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
