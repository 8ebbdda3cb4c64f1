"""A run, put together: where it begins or goes on, with whom, and who watches; from its first input to its end.

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

from umbel.events import Event, Observer
from umbel.fold.partial import PartialSum
from umbel.rounds.coordinator import Phase
from umbel.rounds.messages import Input, Populated, Resumed, Started, Stopped
from umbel.runtime.attributes import Attributes
from umbel.runtime.begun import Begun
from umbel.runtime.ended import Ended, keep_models, mark_files
from umbel.runtime.experiment import Experiment
from umbel.runtime.fingerprints import ATTRIBUTES
from umbel.runtime.interactive import is_script
from umbel.runtime.log import logger
from umbel.runtime.observers.audience import Audience
from umbel.runtime.observers.narrator import Fold, Narrator
from umbel.runtime.observers.outcome import outcome_of
from umbel.runtime.observers.versions import Versions
from umbel.runtime.owner import Owner
from umbel.runtime.run import NAG_EVERY, run
from umbel.runtime.run_registry import how_to_go_on
from umbel.runtime.signals import Terminated, signals
from umbel.runtime.stores.base import Unit
from umbel.runtime.transports.base import Proxy, Transport
from umbel.secret import Secret

__all__ = ["Federation", "carry_out"]

BY_CTRL_C = "stopped by Ctrl-C"


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
                    begun.model.keep_only(state, state.versions)  # the last answers may have come too late
                    begun.opened.finish(outcome.status)
                    mark_files(experiment, begun, begun.opened)
    keep_models(experiment, begun)
    return Ended(begun, outcome)


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
    attributes = Attributes(experiment.declared.strategy, partial(store.note, ATTRIBUTES))
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
