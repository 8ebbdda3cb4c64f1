"""What is left of a run that is over: its History with the model, what is said of it, and how the caller goes on.

Knows the run's state, folder and files; knows no clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from umbel.errors import StoreError
from umbel.runtime.begun import Begun
from umbel.runtime.experiment import Experiment
from umbel.runtime.interactive import CellStopped, is_script
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel, describe_best, path_of
from umbel.runtime.observers.history import History
from umbel.runtime.observers.outcome import Outcome
from umbel.runtime.observers.table import table
from umbel.runtime.run_registry import OpenedRun
from umbel.runtime.saved import BestModel, SavedModel, describe, mark, read_whole

__all__ = ["Ended", "keep_models", "mark_files"]


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


def _said_of(experiment: Experiment, begun: Begun, version: int) -> dict[str, str]:
    """What the file of a version says about itself."""
    return describe(
        begun.model.at(version).schema.names,
        run=begun.coordinator.rules.run,
        number=version,
        strategy=experiment.declared.name,
        loss=begun.restored.history.loss_of(version),
    )


def mark_files(experiment: Experiment, begun: Begun, opened: OpenedRun) -> None:
    """Has the model's files say what they are. Those of an audited run stay as the audit has them, to the last byte."""
    if opened.folder is None or opened.store.head is not None:
        return
    for version in begun.state.versions:
        try:
            mark(opened.store.contents, GlobalModel.name(version), _said_of(experiment, begun, version))
        except StoreError as error:  # a full disk, for example: the model is whole as it is
            logger.warning("The file of version %d does not say of which run it is: %s", version, error)


def keep_models(experiment: Experiment, begun: Begun) -> None:
    """Leaves the model to the History: where its files are, or a copy where the run has none that stay."""
    history, standing = begun.restored.history, begun.state.standing
    folder = None if begun.opened is None else begun.opened.folder

    def save(version: int) -> SavedModel:
        said = _said_of(experiment, begun, version)
        if folder is not None:
            return SavedModel(said, path_of(folder, version))
        return SavedModel(said, held=read_whole(begun.model.at(version)))

    try:
        last = None if begun.state.version is None else save(begun.state.version)
        history.keep(last)
        if standing.best_version is None or standing.best is None:
            return
        best = last if last is not None and standing.best_version == begun.state.version else save(standing.best_version)
        which = standing.best_round, experiment.pace.keep_best or "", standing.best
        history.keep(best=BestModel(best.metadata, best.path, best.held, None, *which))
    except StoreError as error:
        logger.warning("The History does not have the model: %s", error)
