"""Pictures of who has which labels. matplotlib is imported when a picture is drawn: the extra `plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from umbel.datasets.heterogeneity import compute_counts
from umbel.datasets.partitioners import Partitioner
from umbel.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = [
    "plot_comparison_label_distribution",
    "plot_comparison_label_distributions",
    "plot_label_distributions",
]

_MOST_BARS = 1000  # of one partition. 2,000 of each of 10 take a minute to draw

PlotType: TypeAlias = Literal["bar", "heatmap"]
SizeUnit: TypeAlias = Literal["absolute", "percent"]
PartitionAxis: TypeAlias = Literal["x", "y"]


def plot_label_distributions(
    partitioner: Partitioner,
    label_name: str,
    plot_type: PlotType = "bar",
    size_unit: SizeUnit = "absolute",
    max_num_partitions: int | None = None,
    partition_id_axis: PartitionAxis = "x",
    axis: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str = "Per Partition Label Distribution",
    cmap: object = None,
    legend: bool = False,
    legend_title: str | None = None,
    verbose_labels: bool = True,
    plot_kwargs: Mapping[str, Any] | None = None,
    legend_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Figure, Axes, DataFrame]:
    """Draw how many rows of each label every partition has; return the figure, its axes and the numbers.

    - `plot_type`: "bar" stacks the labels of a partition, "heatmap" gives each pair of partition and label a cell.
    - `size_unit`: rows, or "percent" of the partition.
    - `partition_id_axis`: along which axis the partitions lie. `axis`: draw here instead of in a new figure.
    - `verbose_labels`: names instead of numbers, where a Hugging Face dataset knows them.
    - `cmap`, `plot_kwargs` and `legend_kwargs` go to matplotlib.

    The DataFrame has a row per partition and a column per label. Raises DataError for a column or a choice that is not
    there, and where matplotlib or pandas is missing.
    """
    pyplot = _pyplot()
    draw = _one_of("plot_type", plot_type, {"bar": _bars, "heatmap": _cells})
    in_unit = _one_of("size_unit", size_unit, {"absolute": lambda counts: counts, "percent": _percent})
    across = _one_of("partition_id_axis", partition_id_axis, {"x": True, "y": False})
    frame = in_unit(compute_counts(partitioner, label_name, verbose_labels, max_num_partitions))
    if plot_type == "bar" and frame.shape[1] > _MOST_BARS:
        raise DataError(
            f"Column {label_name!r} has {frame.shape[1]} values, and at most {_MOST_BARS} are stacked as bars. "
            "Choose the column of labels, or plot_type='heatmap'."
        )
    drawn: Any = axis
    if axis is None:
        _, drawn = pyplot.subplots(figsize=figsize or _size(len(frame), across), layout="constrained")
    draw(drawn, frame, across, cmap, {} if plot_kwargs is None else plot_kwargs)
    what = "Count" if size_unit == "absolute" else "Percent %"
    along, other = "Partition ID", "Label" if plot_type == "heatmap" else what
    drawn.set(title=title, xlabel=along if across else other, ylabel=other if across else along)
    if legend and plot_type == "bar":
        beside = {"bbox_to_anchor": (1.0, 1.0), "loc": "upper left"}
        drawn.legend(title=legend_title or label_name, **{**beside, **(legend_kwargs or {})})
    elif legend:
        drawn.figure.colorbar(drawn.images[0], ax=drawn, label=legend_title or what, **(legend_kwargs or {}))
    return drawn.figure, drawn, frame


def plot_comparison_label_distribution(
    partitioner_list: Sequence[Partitioner],
    label_name: str | Sequence[str],
    plot_type: PlotType = "bar",
    size_unit: SizeUnit = "percent",
    max_num_partitions: int | None = 30,
    partition_id_axis: PartitionAxis = "y",
    figsize: tuple[float, float] | None = None,
    subtitle: str = "Comparison of Per Partition Label Distribution",
    titles: Sequence[str] | None = None,
    cmap: object = None,
    legend: bool = False,
    legend_title: str | None = None,
    verbose_labels: bool = True,
    plot_kwargs_list: Sequence[Mapping[str, Any] | None] | None = None,
    legend_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Figure, list[Axes], list[DataFrame]]:
    """Draw several partitioners side by side, each as `plot_label_distributions` does; the legend is the last one's.

    `label_name` is one for all, or one each. Raises DataError for lists of different lengths, and as the other does.
    """
    pyplot = _pyplot()
    count = len(partitioner_list)
    if count == 0:
        raise DataError("partitioner_list is empty: give the partitioners to compare.")
    label_names = [label_name] * count if isinstance(label_name, str) else label_name
    for setting, given in (("label_name", label_names), ("titles", titles), ("plot_kwargs_list", plot_kwargs_list)):
        if given is not None and len(given) != count:
            raise DataError(f"{setting} has {len(given)} entries, and there are {count} partitioners: give one for each.")
    across = partition_id_axis == "x"
    figure, grid = pyplot.subplots(
        *((count, 1) if across else (1, count)),
        figsize=figsize or ((6.4, 3.2 * count) if across else (3.2 * count + 1.0, 4.8)),
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(subtitle)
    frames = []
    for number, (partitioner, axes) in enumerate(zip(partitioner_list, grid.flat, strict=True)):
        _, _, frame = plot_label_distributions(
            partitioner,
            label_names[number],
            plot_type,
            size_unit,
            max_num_partitions,
            partition_id_axis,
            axes,
            title=type(partitioner).__name__ if titles is None else titles[number],
            cmap=cmap,
            legend=legend and number == count - 1,
            legend_title=legend_title,
            verbose_labels=verbose_labels,
            plot_kwargs=None if plot_kwargs_list is None else plot_kwargs_list[number],
            legend_kwargs=legend_kwargs,
        )
        frames.append(frame)
    return figure, list(grid.flat), frames


plot_comparison_label_distributions = plot_comparison_label_distribution  # both spellings are in use


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise DataError("Pictures need matplotlib, which is not installed. Run: pip install 'umbel[plot]'") from error
    return pyplot


def _one_of(setting: str, value: str, choices: Mapping[str, Any]) -> Any:
    if value not in choices:
        raise DataError(f"{setting} is {value!r}, and must be {' or '.join(map(repr, choices))}.")
    return choices[value]


def _percent(counts: DataFrame) -> DataFrame:
    rows = counts.sum(axis=1).clip(lower=1)  # a partition without rows has none of anything
    return 100.0 * counts.div(rows, axis=0)


def _size(partitions: int, across: bool) -> tuple[float, float]:
    long = min(6.4 + 0.2 * max(partitions - 10, 0), 20.0)
    return (long, 4.8) if across else (6.4, long)


def _bars(axis: Any, frame: Any, across: bool, cmap: Any, options: Mapping[str, Any]) -> None:
    from matplotlib import colormaps

    shades = colormaps.get_cmap(cmap or ("tab10" if frame.shape[1] <= 10 else "viridis"))
    where, base = np.arange(len(frame)), np.zeros(len(frame))
    for number, name in enumerate(frame.columns):
        colour = shades(number) if shades.N <= 20 else shades(number / max(frame.shape[1] - 1, 1))
        values = frame.iloc[:, number].to_numpy()
        settings = {"label": _as_it_is(str(name)), "color": colour, **options}
        if across:
            axis.bar(where, values, bottom=base, **settings)
        else:
            axis.barh(where, values, left=base, **settings)
        base = base + values
    _tick(axis.xaxis if across else axis.yaxis, [str(number) for number in where])
    if not across:
        axis.invert_yaxis()


def _cells(axis: Any, frame: Any, across: bool, cmap: object, options: Mapping[str, Any]) -> None:
    values = frame.to_numpy().T if across else frame.to_numpy()
    axis.imshow(values, cmap=cmap or "Greens", **{"aspect": "auto", **options})
    partitions, labels = [str(number) for number in range(len(frame))], [_as_it_is(str(label)) for label in frame.columns]
    _tick(axis.xaxis, partitions if across else labels)
    _tick(axis.yaxis, labels if across else partitions)
    if values.size <= 400:  # more do not fit
        for (row, column), value in np.ndenumerate(values):
            dark = value > (values.max() + values.min()) / 2
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", size=7, color="white" if dark else "black")


def _as_it_is(name: str) -> str:
    """A label that matplotlib shows as it is: without formulas, and in the legend where it begins with "_" too."""
    return ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")  # a space of no width


def _tick(axis: Any, names: Sequence[str]) -> None:
    step = -(-len(names) // 30)  # more than thirty run into each other
    axis.set_ticks(range(0, len(names), step), names[::step])
