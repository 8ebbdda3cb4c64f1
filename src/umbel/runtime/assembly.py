"""A run, put together: where it begins or goes on, with whom, who watches; and what is kept and said once it is over.

Every front door comes through here: `start_server`, `start_simulation`, `run_locally`. A front door says what is run (an
`Experiment`), where it begins (`Begun`), how its clients are reached (`Federation`) and who watches, and calls `carry_out`.
Knows no HTTP and no crew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from umbel.errors import StoreError
from umbel.events import Event, Observer
from umbel.fold.partial import PartialSum
from umbel.rounds.coordinator import Coordinator, Phase, State
from umbel.rounds.messages import Input, Lost, Populated, Resumed, Started, Stopped
from umbel.runtime.attributes import Attributes
from umbel.runtime.damage import find_damage
from umbel.runtime.experiment import Experiment
from umbel.runtime.failpoints import failpoint
from umbel.runtime.fingerprints import ATTRIBUTES
from umbel.runtime.interactive import CellStopped, is_script
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel, describe_best, path_of
from umbel.runtime.observers.audience import Audience
from umbel.runtime.observers.history import History
from umbel.runtime.observers.narrator import Fold, Narrator
from umbel.runtime.observers.outcome import Outcome, outcome_of
from umbel.runtime.observers.table import table
from umbel.runtime.observers.versions import Versions
from umbel.runtime.owner import Owner
from umbel.runtime.resume import Restored
from umbel.runtime.run import NAG_EVERY, run
from umbel.runtime.run_registry import OpenedRun, how_to_go_on
from umbel.runtime.saved import BestModel, SavedModel, describe, mark, read_whole
from umbel.runtime.signals import Terminated, signals
from umbel.runtime.stores.base import Store, Unit
from umbel.runtime.transports.base import Proxy, Transport
from umbel.secret import Secret

__all__ = ["Begun", "Ended", "Federation", "begin", "carry_out"]

BY_CTRL_C = "stopped by Ctrl-C"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run at its beginning, or where it was left: as it was restored, its store and model, and what of these is lost.

    `opened` is None where nobody has opened it as a run with a name, so that nothing is left to finish at its end.
    """

    restored: Restored
    store: Store
    model: GlobalModel
    lost: Lost | None
    opened: OpenedRun | None

    @property
    def coordinator(self) -> Coordinator:
        return self.restored.coordinator

    @property
    def state(self) -> State:
        return self.restored.coordinator.state


def begin(experiment: Experiment, restored: Restored, store: Store, opened: OpenedRun | None = None) -> Begun:
    """Checks what the run needs of its store's contents, and removes the rest. Raises `StoreError` where it cannot go on."""
    model, state = experiment.model(store.contents), restored.coordinator.state
    lost = find_damage(model, state)
    failpoint("resume.before-sweep")
    model.keep_only(state, state.versions | state.spare)
    failpoint("resume.after-sweep")
    return Begun(restored=restored, store=store, model=model, lost=lost, opened=opened)


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """The clients, as a run reaches them, and the time that they share.

    `everyone` are all clients that there will ever be, where they are there from the beginning. `take_sum` gives the sum of
    an exchange, where workers fold updates. `secret` gives the run's. `in_user_code` tells whether clients' code runs in
    this thread.
    """

    transport: Transport
    clock: Callable[[], float]
    secret: Callable[[], Secret]
    everyone: Populated | None = None
    take_sum: Callable[[str], PartialSum] | None = None
    in_user_code: Callable[[], bool] = lambda: False
    nag_every: float = NAG_EVERY  # seconds between two lines about whom the run waits for


class Display(Protocol):
    """Shows a run to people while it is open: lines, or a bar. `follows` are those of `ON_DEMAND` that it looks at."""

    @property
    def follows(self) -> Collection[type]: ...

    def observe(self, event: Event, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """What is left of a run that is over, or was stopped."""

    begun: Begun
    outcome: Outcome

    @property
    def history(self) -> History:
        return self.begun.restored.history

    def leave(self) -> History:
        """The History of a run that came to its end. Raises the error that ended it otherwise.

        Where Ctrl-C did, a script ends with exit code 130 once the History is printed, and what a person types at, such as a
        notebook, with a `KeyboardInterrupt` that has it: a loop of runs is over, too.
        """
        self.outcome.raise_error()
        if self.outcome.status != "stopped":
            return self.history
        self.history.interrupted = True
        if not is_script():
            raise CellStopped(self.history)
        logger.info("%s", self.history)
        raise SystemExit(130)

    def say(self) -> None:
        """Says what came of it, and where it is."""
        state, opened = self.begun.state, self.begun.opened
        for line in table(self.history):
            logger.info("%s", line)
        if opened is None:
            return
        if opened.folder is not None and state.version is not None:
            logger.info("Model: %s", path_of(opened.folder, state.version))
            for text in describe_best(state, opened.folder):
                logger.info("%s", text)
        if opened.store.head is not None:
            logger.info("Audit: umbel audit verify %s --head %s", opened.run, opened.store.head.hex())


def carry_out(
    experiment: Experiment,
    begun: Begun,
    federation: Federation,
    *,
    display: AbstractContextManager[Display | None] = nullcontext(),  # noqa: B008  # a value
    observers: Sequence[Observer] = (),
    versions: Versions | None = None,
    demands: Sequence[Fold] = (),
) -> Ended:
    """Runs until the run is over, and then finishes it in its store.

    `display` is open while the run is. `versions` keeps those that observers are told of open for them. `demands` see each
    event in the run's own thread and may raise, which ends the run. What the owner's code and the store raise passes
    through, and leaves a run that can go on; so does SIGTERM, which ends a script with exit code 143.
    """
    over, state, transport = False, begun.state, federation.transport
    with Audience(observers) as audience:
        try:
            _run(experiment, begun, federation, display, audience, versions, demands)
            over = True
        except Terminated:
            kept = begun.opened is not None and begun.opened.where is not None
            goes_on = "the run is kept, and goes on when the same script is started again"
            logger.info("SIGTERM: %s", goes_on if kept else "nothing of the run is kept; store= would keep it")
            if is_script():
                raise SystemExit(143) from None
            raise
        finally:
            outcome = outcome_of(state)
            try:
                transport.close(outcome.why, over=over)
            finally:
                if over and begun.opened is not None:
                    # Only now: a server that dies before every client has heard of the end goes on telling them.
                    begun.model.keep_only(state, state.versions)  # answers may have come that nobody took up any more
                    begun.opened.finish(outcome.status)
                    _mark_files(experiment, begun, begun.opened)
    _keep_models(experiment, begun)
    return Ended(begun, outcome)


def _said_of(experiment: Experiment, begun: Begun, version: int) -> dict[str, str]:
    """What the file of a version says about itself."""
    return describe(
        begun.model.at(version).schema.names,
        run=begun.coordinator.rules.run,
        number=version,
        strategy=experiment.host.declared.name,
        loss=begun.restored.history.loss_of(version),
    )


def _mark_files(experiment: Experiment, begun: Begun, opened: OpenedRun) -> None:
    """Has the model's files say what they are. Those of an audited run stay as the audit has them, to the last byte."""
    if opened.folder is None or opened.store.head is not None:
        return
    for version in begun.state.versions:
        try:
            mark(opened.store.contents, GlobalModel.name(version), _said_of(experiment, begun, version))
        except StoreError as error:  # a full disk, for example: the model is whole as it is
            logger.warning("The file of version %d does not say of which run it is: %s", version, error)


def _keep_models(experiment: Experiment, begun: Begun) -> None:
    """Leaves the model to the History: where its files are, or a copy where the run has none that stay."""
    history, standing = begun.restored.history, begun.state.standing
    folder = None if begun.opened is None else begun.opened.folder

    def saved(version: int) -> SavedModel:
        said = _said_of(experiment, begun, version)
        if folder is not None:
            return SavedModel(said, path_of(folder, version))
        return SavedModel(said, held=read_whole(begun.model.at(version)))

    try:
        last = None if begun.state.version is None else saved(begun.state.version)
        history.keep(last)
        if standing.best_version is None or standing.best is None:
            return
        best = last if last is not None and standing.best_version == begun.state.version else saved(standing.best_version)
        which = standing.best_round, experiment.pace.keep_best or "", standing.best
        history.keep(best=BestModel(best.metadata, best.path, best.held, None, *which))
    except StoreError as error:
        logger.warning("The History does not have the model: %s", error)


def _run(
    experiment: Experiment,
    begun: Begun,
    federation: Federation,
    display: AbstractContextManager[Display | None],
    audience: Audience,
    versions: Versions | None,
    demands: Sequence[Fold],
) -> None:
    coordinator, history, untold, _ = begun.restored
    transport, everyone, store = federation.transport, federation.everyone, begun.store
    owner = Owner(
        experiment.host,
        begun.model,
        seed=experiment.seed,
        proxy=lambda name: Proxy(name, transport),
        population=None if everyone is None else everyone.size,
        take_sum=federation.take_sum,
        remedy=how_to_go_on(begun.opened),
        history=history,
        room=experiment.room,
        secret=federation.secret,
    )
    attributes = Attributes(experiment.host.declared.strategy, partial(store.note, ATTRIBUTES))
    begins: Input = Started() if begun.state.phase is Phase.NEW else Resumed(experiment.num_rounds)
    with display as shown, _interruptible(federation, owner):
        narrator = Narrator(
            coordinator,
            history,
            begun.model,
            folds=[*([] if shown is None else [shown.observe]), attributes.observe, *demands],
            followed=() if shown is None else shown.follows,
            audience=audience,
            holds=store.unit is Unit.INPUT,
            versions=versions,
        )
        with narrator:
            run(
                coordinator=coordinator,
                owner=owner,
                model=begun.model,
                store=store,
                transport=transport,
                history=history,
                untold=untold,
                lost=begun.lost,
                clock=federation.clock,
                first=[begins, *([] if everyone is None else [everyone])],
                nag_every=federation.nag_every,
                narrator=narrator,
            )


def _interruptible(federation: Federation, owner: Owner) -> AbstractContextManager[None]:
    """Ctrl-C and SIGTERM are inputs of the run, or an exception where the owner's or a client's code is running."""
    put = federation.transport.put
    return signals(
        stop=lambda: put(Stopped(BY_CTRL_C)),
        terminate=lambda: put(Terminated()),
        in_user_code=lambda: owner.busy or federation.in_user_code(),
    )
