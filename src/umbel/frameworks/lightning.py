"""Lightning: a LightningModule and its loaders; a quiet Trainer fits it. Knows no rounds.

    from umbel.frameworks import lightning as umbel_lightning

    client = umbel_lightning.client(Net, load, max_epochs=1)

What travels is what travels of any PyTorch module. A Trainer is made for each task, without logger, checkpoints, progress
bar and tips; its last `callback_metrics` are the client's metrics. With functions of one's own `client` of
`umbel.frameworks.torch` does.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType

from umbel.dialogue import Config, Metrics, Parameters
from umbel.frameworks.adapter import load_into, needs
from umbel.frameworks.base import ModelClient
from umbel.frameworks.calling import as_metrics
from umbel.frameworks.torch import TorchAdapter, parameters_of, statistics_of

with needs("torch", "lightning"):
    from torch import nn

__all__ = ["LightningAdapter", "adapter", "client", "load", "parameters_of", "statistics_of"]

_QUIET: Mapping[str, object] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 1,
}
_PACKAGES = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}


class LightningAdapter(TorchAdapter):
    """What Lightning says about its modules, beside what PyTorch does."""

    name = "lightning"

    def renew(self, model: nn.Module, memory: object, seed: int | None) -> None:
        super().renew(model, memory, seed)
        model.trainer = None  # holds the loaders of the client before
        for part in model.modules():
            if type(part).__module__.startswith("torchmetrics") and hasattr(part, "reset"):
                part.reset()


adapter = LightningAdapter()


def client(
    model: nn.Module | type[nn.Module] | Callable[[], nn.Module],
    data: object = None,
    **trainer: object,
) -> ModelClient[nn.Module]:
    """A client of this LightningModule, which a Trainer fits and tests: see `ModelClient` for the model.

    - `data`: a LightningDataModule, a loader, {"train": loader, "test": loader}, or a function of the client's number (or of
      its `context`) that gives one of these; None for a module that has loaders of its own.
    - `trainer`: arguments of the Trainer, such as `max_epochs`, which is 1; the config's "max_epochs" comes before it.

    It is tested by its `test_step`, or else by its `validation_step`; what that logs under a name that ends in "loss" is the
    loss.
    """
    return ModelClient(model, _Fit(trainer), _Test(trainer), data, adapter=adapter)


def load(model: nn.Module, parameters: Mapping[str, object] | Sequence[object] | Parameters) -> nn.Module:
    """Writes parameters into the module in place, and returns it: as that of `umbel.frameworks.torch`."""
    return load_into(adapter, model, parameters)


class _Fit:
    """`train`: a Trainer's fit."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options

    def __call__(self, model: nn.Module, data: object = None, *, config: Config) -> tuple[int, Metrics]:
        library = _library_of(model)
        if data is None and not _has_own(library, model, "train_dataloader"):
            raise TypeError(
                f"{type(model).__name__} has no data to train on; give data=, a LightningDataModule or a loader, or write "
                "its train_dataloader"
            )
        chosen: dict[str, object] = {name: config[name] for name in ("max_epochs", "max_steps") if name in config}
        with _quiet():
            trainer = library.Trainer(**{**_QUIET, **self._options, **chosen})
            trainer.fit(model, **_loaders(library, data, "train_dataloaders"))
        return _count(trainer.train_dataloader), as_metrics(trainer.callback_metrics)


class _Test:
    """`test`: a Trainer's test where the module has a `test_step`, else its validation."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options

    def __call__(self, model: nn.Module, data: object = None) -> tuple[float, int, Metrics]:
        library = _library_of(model)
        tests = _has_own(library, model, "test_step")
        if not tests and not _has_own(library, model, "validation_step"):
            return math.nan, 0, {}
        if data is None and not _has_own(library, model, "test_dataloader" if tests else "val_dataloader"):
            raise TypeError(
                f"{type(model).__name__} has no data to be tested on; give data=, a LightningDataModule or "
                f'{{"train": loader, "test": loader}}, or write its {"test" if tests else "val"}_dataloader'
            )
        with _quiet():
            trainer = library.Trainer(**{**_QUIET, **self._options})
            run = trainer.test if tests else trainer.validate
            run(model, verbose=False, **_loaders(library, data, "dataloaders"))
        metrics = as_metrics(trainer.callback_metrics)
        losses = [name for name in ("loss", "test_loss", "val_loss", *metrics) if name in metrics and name.endswith("loss")]
        if not losses:
            raise TypeError(
                f"{type(model).__name__} has logged no loss, only {', '.join(metrics) or 'nothing'}; log it in test_step or "
                'validation_step: self.log("test_loss", loss)'
            )
        loss = metrics.pop(losses[0])
        assert isinstance(loss, (int, float))
        return loss, _count(trainer.test_dataloaders if tests else trainer.val_dataloaders), metrics


def _library_of(model: nn.Module) -> ModuleType:
    """The package that the module's class comes from: there are two of one kind."""
    roots = [parent.__module__.partition(".")[0] for parent in type(model).__mro__]
    for root in roots:
        if root in _PACKAGES:
            return import_module(_PACKAGES[root])
    raise TypeError(f"{type(model).__name__} is no LightningModule; give one, or use umbel.frameworks.torch with a train()")


def _has_own(library: ModuleType, model: nn.Module, method: str) -> bool:
    return getattr(type(model), method, None) is not getattr(library.LightningModule, method)


def _loaders(library: ModuleType, data: object, keyword: str) -> dict[str, object]:
    if data is None:
        return {}
    return {"datamodule" if isinstance(data, library.LightningDataModule) else keyword: data}


def _count(loaders: object) -> int:
    """The examples in what a Trainer has iterated over."""
    each = loaders if isinstance(loaders, (list, tuple)) else [*loaders.values()] if isinstance(loaders, dict) else [loaders]
    counts = [adapter.count_examples(loader) for loader in each]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        raise TypeError("how many examples there are cannot be told from the loaders; give loaders of data with a length")
    return sum(known)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Lightning gives no tips and no advice; what the module itself says is heard."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_)?lightning\b")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
