"""The model of a process: made once, used by all its clients in turn, and as new before each task. Knows no functions."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from inspect import Parameter
from typing import Generic, TypeVar

from umbel.context import Context
from umbel.frameworks.adapter import Adapter, adapter_for
from umbel.frameworks.personal import Personal
from umbel.params import NDArray
from umbel.rng import key
from umbel.runtime.seeding import seed_generators

__all__ = ["Workshop", "makes_model", "seeded"]

M = TypeVar("M")  # a framework's model


class Workshop(Generic[M]):
    """The model of this process, which all its clients use in turn. A pickle has what people gave, not what became of it."""

    def __init__(self, source: object, adapter: Adapter[M] | None, personal: Personal) -> None:
        self._personal = personal
        self._source = source  # a model, or what makes one
        self._makes = makes_model(source)
        self._adapter = adapter
        self._memory: object = None
        self._used = False
        self.model: M | None = None
        self.first: dict[str, NDArray] = {}  # what clients keep to themselves, as it is in a new model
        if adapter is None and (isinstance(source, type) or not self._makes):
            self._adapter = adapter_for(source)  # type: ignore[assignment]  # that of this source
        if self._makes:
            _check_makes(source)
        if self._adapter is not None and not self._makes:
            self._adapter.check(source)  # type: ignore[arg-type]  # raises for what is no model of this framework
            if personal:
                personal.check(self._adapter.shapes_of(source))  # type: ignore[arg-type]  # the same

    def keeping(self, personal: Personal) -> Workshop[M]:
        """Another workshop for the same model, of which clients keep what `personal` says to themselves."""
        return Workshop(self._source, self._adapter, personal)

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "model": None, "_memory": None, "_used": False, "first": {}}

    def model_for(self, context: Context) -> tuple[Adapter[M], M]:
        """The model, in all that does not travel as it was when it was new."""
        if self.model is None:
            self.model, self._used = self._make(context), False
            self._adapter = self._adapter or adapter_for(self.model)  # type: ignore[assignment]  # that of this model
            if self._makes:
                self._known.check(self.model)
            self._memory = self._known.remember(self.model)
            self._look_at_names(self.model)
        seed = None if context.seed is None else key(context.seed, "client", context.node_id, context.round)
        self._known.renew(self.model, self._memory, seed)
        self._used = True
        return self._known, self.model

    def _look_at_names(self, model: M) -> None:
        if self._personal:
            self._personal.check(self._known.shapes_of(model))
            arrays = self._known.arrays_of(model)
            self.first = {name: array for name, array in arrays.items() if name in self._personal}

    def new_model(self, context: Context) -> tuple[Adapter[M], M]:
        """The model as `model_for` gives it, with its first values where this process makes models: it makes another one."""
        if self._used and self._makes:
            self.model = None
        return self.model_for(context)

    def _make(self, context: Context) -> M:
        if self._makes:
            with seeded(context, "model"):  # the same in every process, whichever client comes first
                made: M = self._source()  # type: ignore[operator]  # it is callable
            if made is None or isinstance(made, type):
                what = "nothing" if made is None else f"the class {made.__name__}"
                raise TypeError(f"the function that makes the model returned {what}; it returns a model")
            return made
        model: M = self._source  # type: ignore[assignment]  # that of the adapter
        if "partition-id" not in context.node_config:
            return model
        try:
            return self._known.duplicate(model)
        except Exception as error:  # whatever is in it
            kind = type(model).__name__
            raise TypeError(f"this {kind} cannot be copied for a simulation; give the function that makes it") from error

    @property
    def _known(self) -> Adapter[M]:
        assert self._adapter is not None
        return self._adapter


@contextlib.contextmanager
def seeded(context: Context, *path: str) -> Iterator[None]:
    """Inside, draws have this address in the run; afterwards that of the client's task, from its beginning."""
    if context.seed is None:
        yield
        return
    seed_generators(context.seed, *path)
    yield
    seed_generators(context.seed, "client", context.node_id, context.round)


def _check_makes(source: object) -> None:
    """Raises `TypeError` for a class or a function that has to be told something before it makes a model."""
    try:
        parameters = inspect.signature(source).parameters.values()  # type: ignore[arg-type]  # it is callable
    except ValueError:  # built in, without a signature
        return
    anything = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    missing = [p.name for p in parameters if p.default is Parameter.empty and p.kind not in anything]
    if missing:
        name = getattr(source, "__name__", type(source).__name__)
        name = "Net" if name == "<lambda>" else name
        filled = ", ".join(f"{argument}=…" for argument in missing)
        raise TypeError(
            f"model={name} takes {', '.join(map(repr, missing))}, and is called without arguments; give a function that "
            f"makes the model: lambda: {name}({filled})"
        )


def makes_model(source: object) -> bool:
    """Whether this is a class or a function that makes a model, and not a model, which may be callable, too."""
    if isinstance(source, type):
        return True
    try:
        adapter_for(source)
    except TypeError:
        return callable(source)
    return False
