"""Preprocessors: functions from splits to splits that are so common that they have a name.

Any callable will do as `FederatedDataset(preprocessor=…)`; these two divide and merge splits. They take what a
`FederatedDataset` hands them, a `DatasetDict` or a dict of views, and return the same kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from umbel.datasets.partitioners.arguments import whole
from umbel.errors import DataError

__all__ = ["Divider", "Merger"]

Splits = TypeVar("Splits", bound=dict[str, Any])


class Divider:
    """Divides splits into new ones, from their first row on.

    `divide_config` names the new splits and their sizes: numbers of rows, or shares (float) of at most 1 together, rounded
    down. For more than one split, or as an alternative to `divide_split`, it names the splits to divide first:
    {"train": {"train": 0.8, "valid": 0.2}}. Splits that are not divided stay, unless `drop_remaining_splits`.

    Raises DataError where sizes are not of one kind, a new name is taken, or a split has too few rows.

    >>> import numpy as np
    >>> from umbel.datasets.view import View
    >>> from umbel.datasets.tables import ArrayTable
    >>> made = Divider({"train": 0.8, "valid": 0.2})({"train": View(ArrayTable({"x": np.arange(10)}))})
    >>> {name: len(rows) for name, rows in made.items()}
    {'train': 8, 'valid': 2}
    """

    def __init__(
        self,
        divide_config: Mapping[str, float] | Mapping[str, Mapping[str, float]],
        divide_split: str | None = None,
        drop_remaining_splits: bool = False,
    ) -> None:
        if not isinstance(divide_config, Mapping) or not divide_config:
            raise DataError(
                f"divide_config is {divide_config!r}, and must name the new splits, such as {{'train': 0.8, 'valid': 0.2}}."
            )
        self._flat: dict[str, float] = {}
        self._nested: dict[str, dict[str, float]] = {}
        for name, entry in divide_config.items():
            if isinstance(entry, Mapping):
                self._nested[name] = dict(entry)
            else:
                self._flat[name] = entry
        if self._flat and self._nested:
            raise DataError(
                f"divide_config has sizes ({', '.join(map(repr, self._flat))}) beside splits "
                f"({', '.join(map(repr, self._nested))}): give either new splits, or splits and their new splits."
            )
        for sizes in self._nested.values() if self._nested else [self._flat]:
            _check_sizes(sizes)
        new = Counter(name for sizes in self._nested.values() for name in sizes)
        if twice := [name for name, times in new.items() if times > 1]:
            raise DataError(f"divide_config makes the split {twice[0]!r} twice. Give each new split a name of its own.")
        self._divide_split = divide_split
        self._drop_remaining_splits = drop_remaining_splits

    def __call__(self, dataset: Splits) -> Splits:
        """The new splits. The argument is not changed."""
        plan = self._nested or {self._only(dataset): self._flat}
        for split in plan:
            if split not in dataset:
                raise DataError(f"There is no split {split!r} to divide. Splits: {', '.join(map(repr, dataset))}.")
        kept = {} if self._drop_remaining_splits else {name: rows for name, rows in dataset.items() if name not in plan}
        made: dict[str, Any] = dict(kept)
        for split, sizes in plan.items():
            start = 0
            for name, size in sizes.items():
                if name in kept:
                    raise DataError(
                        f"divide_config makes the split {name!r}, and there is one already. "
                        "Choose another name, or set drop_remaining_splits=True."
                    )
                end = start + (int(size * len(dataset[split]) + 1e-9) if isinstance(size, float) else int(size))
                made[name] = _run(dataset[split], start, end, split=split, name=name, size=size)
                start = end
        return type(dataset)(made)

    def _only(self, dataset: Mapping[str, object]) -> str:
        if self._divide_split is not None:
            return self._divide_split
        if len(dataset) != 1:
            raise DataError(
                f"There are {len(dataset)} splits ({', '.join(map(repr, dataset))}) and divide_split is None: "
                "say which one to divide."
            )
        return next(iter(dataset))


def _check_sizes(sizes: Mapping[str, object]) -> None:
    shares = [size for size in sizes.values() if isinstance(size, float)]
    numbers = [size for size in sizes.values() if (whole(size) or 0) > 0]
    if not sizes or (len(shares) != len(sizes) and len(numbers) != len(sizes)):
        raise DataError(
            f"divide_config has the sizes {dict(sizes)!r}, and must have shares (float) "
            "or numbers of rows from 1 up, not both."
        )
    if shares and not (all(0 < share <= 1 for share in shares) and sum(shares) <= 1 + 1e-9):
        raise DataError(
            f"divide_config has the shares {dict(sizes)!r}, each of which must be above 0, and their sum ({sum(shares):g}) "
            "at most 1. Lower some."
        )


def _run(rows: Any, start: int, end: int, *, split: str, name: str, size: float) -> Any:
    if end > len(rows):
        raise DataError(
            f"Split {split!r} has {len(rows)} rows, and divide_config asks for {end} of them up to {name!r}. "
            "Lower the sizes."
        )
    if end == start:
        raise DataError(
            f"The new split {name!r} would be empty: {size!r} of the {len(rows)} rows of {split!r}. Raise its size."
        )
    return rows.select(range(start, end))


class Merger:
    """Makes splits by putting others together: {"new": ("train", "valid"), "test": ("test",)}. Splits not named are dropped.

    Raises DataError where a name is no split, or the splits have different columns.
    """

    def __init__(self, merge_config: Mapping[str, Sequence[str]]) -> None:
        if not isinstance(merge_config, Mapping) or not merge_config:
            raise DataError(
                f"merge_config is {merge_config!r}, and must name each new split and those it is made of, "
                "such as {'all': ('train', 'test')}."
            )
        self._config: dict[str, tuple[str, ...]] = {}
        for name, sources in merge_config.items():
            if isinstance(sources, str) or not isinstance(sources, Sequence) or not sources:
                raise DataError(
                    f"merge_config[{name!r}] is {sources!r}, and must be a tuple of splits, such as ('train', 'test')."
                )
            self._config[name] = tuple(sources)

    def __call__(self, dataset: Splits) -> Splits:
        """The merged splits. The argument is not changed."""
        for sources in self._config.values():
            for split in sources:
                if split not in dataset:
                    raise DataError(f"There is no split {split!r} to merge. Splits: {', '.join(map(repr, dataset))}.")
        return type(dataset)(
            {name: _joined([dataset[split] for split in sources]) for name, sources in self._config.items()}
        )


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if not hasattr(parts[0], "features"):
        from umbel.datasets.view import joined

        return joined(parts)
    import datasets

    return datasets.concatenate_datasets(parts)
