"""What every transport promises, as a check that anyone can run on one of their own. Knows no network and no processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np

from umbel.common.typing import Config, NDArrays, Scalar
from umbel.door import Door
from umbel.params import Params, gather, schema_of
from umbel.rounds.messages import (
    Failed,
    Failure,
    FailureKind,
    Input,
    Joined,
    Kind,
    Left,
    Populated,
    Replied,
    Reply,
    Reported,
    Task,
    Ticked,
    Verdict,
)
from umbel.runtime.contents import Contents, write_content
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.transports.base import Transport
from umbel.testing.demand import demand
from umbel.training import NumPyClient
from umbel.update import Layout

__all__ = ["check_transport"]

_PATIENCE = 30.0  # seconds for an answer
_MODEL = [np.arange(4, dtype=np.float32), np.ones((2, 2), np.float32)]
_SCHEMA = schema_of(_MODEL)
_BESIDE = Params.of([np.arange(3, dtype=np.float32)])

Reach = Callable[[Mapping[str, NumPyClient], Contents], AbstractContextManager[Transport]]


class _Member(NumPyClient):
    """Adds 1 in training, and does what a config asks for else."""

    def get_properties(self, config: Config) -> dict[str, Scalar]:
        return {"asked": config["for"]}

    def fit(self, parameters: NDArrays, config: Config) -> tuple[NDArrays, int, dict[str, Scalar]]:
        if config.get("raise"):
            raise RuntimeError("as it was asked to")
        if config.get("short"):
            return parameters[:1], 3, {}
        context = self.context
        assert context is not None
        for part, arrays in context.parts.items():
            context.send(part, [2 * array for array in arrays])
        return [array + 1 for array in parameters], 3, {"m": 0.5}

    def evaluate(self, parameters: NDArrays, config: Config) -> tuple[float, int, dict[str, Scalar]]:
        return float(sum(array.sum() for array in parameters)), 5, {}


def check_transport(reach: Reach) -> None:
    """Checks what the loop of a run relies on. Raises `AssertionError`.

    `reach(clients, contents)` is a context manager that yields a transport which reaches these clients, by name, and closes
    it; it and the loop share the contents.

    Both clients are told of. A task's answer comes once, with its metrics, and its update is a content that holds what `fit`
    returned, and what the client sent beside it, where a task gives it something beside the model. A client that raises, or
    whose answer does not come through the door, has failed, and takes the next task; one of which a task is taken back takes
    the next one, too. `put` is heard from any thread, `receive` gives up in time, and a question between the rounds is
    answered.
    """
    contents = MemoryContents()
    write_content(contents, "model", _SCHEMA, gather(_SCHEMA, _MODEL, 0, _SCHEMA.nbytes))
    write_content(contents, "control", _BESIDE.schema, [_BESIDE.buffer.data])
    with reach({"a": _Member(), "b": _Member()}, contents) as transport:
        _Check(transport, contents).all()


class _Check:
    def __init__(self, transport: Transport, contents: Contents) -> None:
        self._transport, self._contents = transport, contents
        self._present: set[str] = set()
        self._number = 0

    def all(self) -> None:
        self._come()
        self._train()
        self._train_beside()
        self._fail()
        self._take_back()
        self._evaluate()
        self._hear()
        self._ask()
        demand(not self._hear_all(0.0), "something came that nobody had asked for")

    def _come(self) -> None:
        until = time.monotonic() + _PATIENCE
        while self._present != {"a", "b"}:
            demand(time.monotonic() < until, f"of the clients a and b, only {sorted(self._present)} were told of")
            demand(not self._hear_all(1.0), "an answer came before there was a task")

    def _train(self) -> None:
        tasks = self._send(Kind.FIT, {})
        for task, reply in self._replies(tasks).items():
            told = reply.num_examples, dict(reply.metrics)
            demand(told == (3, {"m": 0.5}), f"a reply of 3 examples and the metric m = 0.5 came as {told}")
            demand(reply.content is not None, f"the update of {task} has no content")
            assert reply.content is not None
            content = self._contents.open(reply.content)
            arrays = Params.from_bytes(bytearray(content.read(0, content.size))).arrays()
            content.close()
            same = all(np.array_equal(got, sent + 1) for got, sent in zip(arrays, _MODEL, strict=True))
            demand(same, "the content of an update does not hold what fit() returned")

    def _train_beside(self) -> None:
        layout = Layout.of(_SCHEMA, {"control": _BESIDE.schema})
        door = Door(Kind.FIT, _SCHEMA, 10**7, 2**30, beside={"control": _BESIDE.schema}, wire=layout)
        self._number += 1
        task = self._task(Kind.FIT, {}, "a", 0, 1)
        self._transport.dispatch(task, {"model": "model", "control": "control"}, door)
        (reply,) = self._replies([task.id]).values()
        assert reply.content is not None
        content = self._contents.open(reply.content)
        params = Params.from_bytes(bytearray(content.read(0, content.size)))
        content.close()
        demand(params.schema == layout.schema, f"an update of two parts has the arrays {params.schema.names}")
        wanted = [*(array + 1 for array in _MODEL), *(2 * array for array in _BESIDE.arrays())]
        same = all(np.array_equal(got, array) for got, array in zip(params.arrays(), wanted, strict=True))
        demand(same, "an update does not hold what fit() returned and what the client sent beside it")
        self._replies(self._send(Kind.EVALUATE, {}))  # of the model alone

    def _fail(self) -> None:
        for wish, kind in (("raise", FailureKind.RAISED), ("short", FailureKind.REJECTED)):
            (task,) = self._send(Kind.FIT, {wish: True}, clients="a")
            failure = self._answers([task])[task]
            demand(isinstance(failure, Failure), f"a client that was to {wish} answers {failure}")
            assert isinstance(failure, Failure)
            demand(failure.kind is kind, f"a client that was to {wish} has failed by {failure.kind}, not {kind}")
            self._transport.settle(task, Verdict.NOTED, "")
            self._replies(self._send(Kind.EVALUATE, {}, clients="a"))

    def _take_back(self) -> None:
        task = self._task(Kind.FIT, {}, "b", 0, 1)
        self._transport.dispatch(task, {"model": "model"}, self._door(Kind.FIT))
        self._transport.cancel(task)
        until = time.monotonic() + _PATIENCE
        (following,) = self._send(Kind.EVALUATE, {}, clients="b")
        while True:
            demand(time.monotonic() < until, "a client of which a task was taken back does not take the next one")
            heard = self._hear_all(1.0)
            for name in heard:
                demand(name in (task.id, following), f"{name} is answered, and was never sent")
                self._transport.settle(name, Verdict.STALE if name == task.id else Verdict.ACCEPTED, "")
            if following in heard:
                return

    def _evaluate(self) -> None:
        for reply in self._replies(self._send(Kind.EVALUATE, {})).values():
            loss = float(sum(array.sum() for array in _MODEL))
            demand((reply.loss, reply.num_examples) == (loss, 5), f"the reply is {reply}, of loss {loss} and 5 examples")

    def _hear(self) -> None:
        began = time.monotonic()
        demand(self._transport.receive(0.05) is None, "receive() has something that nobody sent")
        demand(time.monotonic() - began < 5.0, "receive(0.05) took 5 s")
        threading.Thread(target=self._transport.put, args=(Ticked(),)).start()
        demand(self._transport.receive(_PATIENCE) == Ticked(), "what another thread puts in is not received")

    def _ask(self) -> None:
        answer = self._transport.ask("a", Kind.PROPERTIES, None, {"for": "its name"}, _PATIENCE)
        demand(not isinstance(answer, Failure), f"a question is not answered: {answer}")
        assert not isinstance(answer, Failure)
        demand(answer.metrics == {"asked": "its name"}, f"a question is answered with {answer.metrics}")

    # ---- tasks, and what comes of them

    def _task(self, kind: Kind, config: Config, client: str, index: int, cohort: int) -> Task:
        name = f"run.{self._number}.{kind}.0.{index}"
        return Task(name, self._number, kind, index, cohort, client, 0, {**config}, "model")

    def _door(self, kind: Kind) -> Door:
        return Door(kind, _SCHEMA if kind is Kind.FIT else None, 10**7, 2**30)

    def _send(self, kind: Kind, config: Config, *, clients: str = "ab") -> list[str]:
        """Sends the clients a task each; their names."""
        self._number += 1
        tasks = [self._task(kind, config, client, index, len(clients)) for index, client in enumerate(clients)]
        for task in tasks:
            self._transport.dispatch(task, {"model": "model"}, self._door(kind))
        return [task.id for task in tasks]

    def _replies(self, tasks: list[str]) -> dict[str, Reply]:
        """The replies to these tasks, each of which is settled."""
        replies: dict[str, Reply] = {}
        for task, answer in self._answers(tasks).items():
            if isinstance(answer, Failure):
                raise AssertionError(f"{task} has failed: {answer.text}")
            replies[task] = answer
            self._transport.settle(task, Verdict.ACCEPTED, "")
        return replies

    def _answers(self, tasks: list[str]) -> dict[str, Reply | Failure]:
        answers: dict[str, Reply | Failure] = {}
        until = time.monotonic() + _PATIENCE
        while len(answers) < len(tasks):
            demand(time.monotonic() < until, f"of {tasks}, only {sorted(answers)} were answered")
            for name, answer in self._hear_all(1.0).items():
                demand(name in tasks, f"{name} is answered, and was not sent")
                demand(name not in answers, f"{name} is answered twice")
                answers[name] = answer
        return answers

    def _hear_all(self, timeout: float) -> dict[str, Reply | Failure]:
        """The answers in the next input; notes who has come."""
        event: Input | None = self._transport.receive(timeout)
        match event:
            case None:
                return {}
            case Joined(client):
                self._present.add(client)
            case Populated(_, names):
                self._present.update(names)
            case Replied(task, reply):
                return {task: reply}
            case Reported(replies):
                return dict(replies)
            case Failed(task, failure):
                return {task: failure}
            case Left(client, why):
                raise AssertionError(f"client {client} has left: {why}")
            case _:
                raise AssertionError(f"a transport does not tell of {event}")
        return {}
