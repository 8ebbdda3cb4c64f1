"""Transformers: a model and a quiet Trainer, with peft where only its adapter is trained. Knows no rounds.

    from umbel.frameworks import transformers as umbel_transformers

    client = umbel_transformers.client(make_model, load, args={"per_device_train_batch_size": 16})

Of a model the tensors of its state_dict travel, as in `umbel.frameworks.torch`; of a peft model the adapter's alone, under
the names that peft saves them by: `save_adapter(model, parameters, folder)` writes what `PeftModel.from_pretrained` opens.
With functions of one's own `client` of `umbel.frameworks.torch` does.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from umbel.context import Context
from umbel.dialogue import Config, Metrics, Parameters
from umbel.frameworks.adapter import load_into, needs
from umbel.frameworks.base import ModelClient
from umbel.frameworks.calling import as_metrics
from umbel.frameworks.torch import TorchAdapter
from umbel.params import NDArray

with needs("torch", "transformers"):
    import torch
    from torch import nn
with needs("transformers"):
    import transformers

__all__ = ["TransformersAdapter", "adapter", "client", "load", "parameters_of", "save_adapter", "statistics_of"]

_QUIET: Mapping[str, object] = {
    "report_to": "none",
    "save_strategy": "no",
    "logging_strategy": "no",
    "disable_tqdm": True,
}
_BY_CONFIG = ("num_train_epochs", "max_steps", "learning_rate")
# What clocks say, and what says nothing: a run that is repeated has the same metrics.
_LEFT_OUT = {
    *("runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "jit_compilation_time"),
    *("epoch", "total_flos"),
}


class TransformersAdapter(TorchAdapter):
    """What Transformers and peft say about their models, beside what PyTorch does."""

    name = "transformers"

    def tensors_of(self, model: nn.Module) -> dict[str, torch.Tensor]:
        if not _is_peft(model):
            return super().tensors_of(model)
        tensors: dict[str, torch.Tensor] = sys.modules["peft"].get_peft_model_state_dict(model, save_embedding_layers=False)
        return tensors


adapter = TransformersAdapter()


def client(
    model: nn.Module | Callable[[], nn.Module],
    data: object = None,
    *,
    args: transformers.TrainingArguments | Mapping[str, object] | None = None,
    trainer: type[transformers.Trainer] = transformers.Trainer,
    **options: object,
) -> ModelClient[nn.Module]:
    """A client of this model, which a Trainer trains and evaluates: see `ModelClient` for the model.

    - `data`: a data set that the Trainer takes, {"train": data set, "test": data set}, or a function of the client's number
      (or of its `context`) that gives one of these.
    - `args`: TrainingArguments, or a dict of them; one epoch where it is a dict that does not say. The config's
      "num_train_epochs", "max_steps" and "learning_rate" come before them. Nothing is saved, logged or reported.
    - `trainer`: the class, such as one of your own; `options` are its other arguments: `data_collator`, `processing_class`,
      `compute_metrics`.
    """
    work = _Work(args, trainer, options)
    return ModelClient(model, work.train, work.test, data, adapter=adapter)


def parameters_of(model: nn.Module) -> dict[str, NDArray]:
    """Copies of what travels, by name: of a peft model its adapter's tensors."""
    return adapter.arrays_of(model)


def load(model: nn.Module, parameters: Mapping[str, object] | Sequence[object] | Parameters) -> nn.Module:
    """Writes parameters into the model in place, and returns it. Raises `ParametersMismatch` before anything is written."""
    return load_into(adapter, model, parameters)


def statistics_of(model: nn.Module) -> list[str]:
    """The names of what travels and is no weight; a peft model has none of these."""
    return [] if _is_peft(model) else adapter.statistics_of(model)


def save_adapter(
    model: nn.Module, parameters: Mapping[str, object] | Sequence[object] | Parameters, folder: str | Path
) -> Path:
    """Loads parameters into the peft model, and writes its adapter: `PeftModel.from_pretrained(base, folder)` opens it.

    Raises `ParametersMismatch`, and `TypeError` for a model without an adapter.
    """
    if not _is_peft(model):
        raise TypeError(f"{type(model).__name__} has no adapter; write the model with save_pretrained()")
    load(model, parameters).save_pretrained(str(folder), save_embedding_layers=False)
    return Path(folder)


class _Work:
    """`train` and `test`, by a Trainer that is made for each task."""

    def __init__(
        self,
        args: transformers.TrainingArguments | Mapping[str, object] | None,
        trainer: type[transformers.Trainer],
        options: Mapping[str, object],
    ) -> None:
        self._args = args
        self._trainer = trainer
        self._options = options

    def train(self, model: nn.Module, data: object = None, *, config: Config, context: Context) -> tuple[int, Metrics]:
        with self._made(model, config, context, train_dataset=data) as trainer:
            said = trainer.train()
        return _count(trainer.train_dataset), _plain(said.metrics, "train_")

    def test(self, model: nn.Module, data: object = None, *, context: Context) -> tuple[float, int, Metrics]:
        with self._made(model, {}, context, eval_dataset=data) as trainer:
            metrics = _plain(trainer.evaluate(), "eval_")
        loss = metrics.pop("loss", None)
        return loss if isinstance(loss, (int, float)) else math.nan, _count(trainer.eval_dataset), metrics

    @contextlib.contextmanager
    def _made(self, model: nn.Module, config: Config, context: Context, **data: object) -> Iterator[transformers.Trainer]:
        """A Trainer that writes into a folder that is gone afterwards, and draws what the task draws."""
        (which, given), *_ = data.items()
        if given is None:
            half = "train" if which == "train_dataset" else "test"
            raise TypeError(f"the Trainer has no {which}; give data=, a data set or {{'{half}': a data set, …}}")
        chosen: dict[str, object] = {name: config[name] for name in _BY_CONFIG if name in config}
        seed = int(context.rng().integers(2**31))
        with tempfile.TemporaryDirectory(prefix="umbel-") as folder, _quiet():
            mine = {**chosen, "seed": seed, "output_dir": folder}
            if isinstance(self._args, transformers.TrainingArguments):
                args = type(self._args)(**{**_given(self._args), **_QUIET, **mine})
            else:
                args = transformers.TrainingArguments(**{"num_train_epochs": 1, **(self._args or {}), **_QUIET, **mine})
            if not torch.accelerator.is_available():
                args.dataloader_pin_memory = False  # it says that it cannot
            made = self._trainer(model=model, args=args, **data, **self._options)
            made.remove_callback(transformers.trainer_callback.PrinterCallback)
            yield made


def _given(args: transformers.TrainingArguments) -> dict[str, object]:
    """What arguments were made of."""
    return {name: getattr(args, name) for name, spec in args.__dataclass_fields__.items() if spec.init}


def _count(dataset: object) -> int:
    count = adapter.count_examples(dataset)
    if count is None:
        raise TypeError(f"how many examples a {type(dataset).__name__} has cannot be told; give a data set with a length")
    return count


def _plain(metrics: Mapping[str, object], prefix: str) -> Metrics:
    """The metrics of a Trainer without their prefix, and without its times and speeds."""
    named = {name.removeprefix(prefix): value for name, value in metrics.items()}
    return as_metrics({name: value for name, value in named.items() if name not in _LEFT_OUT})


def _is_peft(model: object) -> bool:
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the Trainer says errors only."""
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
