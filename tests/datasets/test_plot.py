"""Pictures show the numbers that they were given."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402

from umbel.datasets import (  # noqa: E402
    FederatedDataset,
    plot_comparison_label_distribution,
    plot_comparison_label_distributions,
    plot_label_distributions,
)
from umbel.errors import DataError  # noqa: E402

COUNTS = [[3, 1, 0], [1, 1, 2]]


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture
def divided():
    labels = np.array([0, 0, 0, 1, 0, 1, 2, 2])
    fds = FederatedDataset(dataset={"y": labels}, partitioners={"train": 2}, shuffle=False)
    return fds.partitioners["train"]


@pytest.fixture
def named():
    source = datasets.Dataset.from_dict(
        {"label": [0, 0, 1, 1]}, features=datasets.Features({"label": datasets.ClassLabel(names=["cat", "dog"])})
    )
    return FederatedDataset(dataset=source, partitioners={"train": 2}, shuffle=False).partitioners["train"]


def heights(axis, across):
    return [[bar.get_height() if across else bar.get_width() for bar in bars] for bars in axis.containers]


@pytest.mark.parametrize("side", ["x", "y"])
def test_bars_are_the_counts_stacked(divided, side):
    figure, axis, frame = plot_label_distributions(divided, "y", partition_id_axis=side)
    assert frame.to_numpy().tolist() == COUNTS
    assert np.transpose(heights(axis, side == "x")).tolist() == COUNTS
    assert (axis.get_xlabel() if side == "x" else axis.get_ylabel()) == "Partition ID"
    assert axis.get_title() == "Per Partition Label Distribution"
    assert axis.figure is figure


def test_percents_are_of_each_partition(divided):
    _, axis, frame = plot_label_distributions(divided, "y", size_unit="percent")
    assert frame.to_numpy().tolist() == [[75, 25, 0], [25, 25, 50]]
    assert axis.get_ylabel() == "Percent %"


@pytest.mark.parametrize("side", ["x", "y"])
def test_cells_are_the_counts(divided, side):
    _, axis, _ = plot_label_distributions(divided, "y", "heatmap", partition_id_axis=side, legend=True)
    drawn = axis.images[0].get_array()
    assert (drawn.T if side == "x" else drawn).tolist() == COUNTS
    assert len(axis.texts) == 6


def test_names_of_labels_title_legend_and_options_are_used(named):
    _, axis, frame = plot_label_distributions(
        named, "label", title="pets", legend=True, legend_title="kind", plot_kwargs={"alpha": 0.5}, cmap="viridis"
    )
    assert list(frame.columns) == ["cat", "dog"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["cat", "dog"]
    assert axis.get_legend().get_title().get_text() == "kind"
    assert axis.get_title() == "pets"
    assert axis.patches[0].get_alpha() == 0.5
    _, _, numbers = plot_label_distributions(named, "label", verbose_labels=False)
    assert list(numbers.columns) == [0, 1]


def test_it_draws_where_it_is_told_and_as_many_as_it_is_told(divided):
    _, mine = pyplot.subplots()
    _, axis, frame = plot_label_distributions(divided, "y", axis=mine, max_num_partitions=1)
    assert axis is mine
    assert len(frame) == 1


def test_a_hundred_partitions_still_have_room_for_their_numbers():
    fds = FederatedDataset(dataset={"y": np.arange(1000) % 10}, partitioners={"train": 100})
    figure, axis, _ = plot_label_distributions(fds.partitioners["train"], "y")
    assert len(axis.get_xticks()) <= 30
    assert figure.get_size_inches()[0] == 20


def test_comparisons_put_partitioners_side_by_side(divided, named):
    figure, axes, frames = plot_comparison_label_distributions(
        [divided, named], ["y", "label"], titles=["one", "two"], size_unit="absolute", legend=True
    )
    assert [axis.get_title() for axis in axes] == ["one", "two"]
    assert frames[0].to_numpy().tolist() == COUNTS
    assert figure.get_suptitle() == "Comparison of Per Partition Label Distribution"
    assert plot_comparison_label_distribution is plot_comparison_label_distributions


@pytest.mark.parametrize("kind", ["bar", "heatmap"])
def test_labels_are_shown_as_they_are(kind, tmp_path):
    names = ["$a^$", "$20 to $30", "_hidden", "plain"]
    fds = FederatedDataset(dataset={"y": np.array(names * 3)}, partitioners={"train": 2})
    figure, axis, frame = plot_label_distributions(fds.partitioners["train"], "y", kind, legend=True)
    figure.savefig(tmp_path / "parts.png")
    shown = axis.get_legend().get_texts() if kind == "bar" else axis.get_yticklabels()
    assert [text.get_text().strip("\u200b").replace(r"\$", "$") for text in shown] == sorted(names) == list(frame.columns)


def test_a_measured_column_is_not_stacked_as_bars():
    fds = FederatedDataset(dataset={"x": np.arange(1001.0)}, partitioners={"train": 2})
    with pytest.raises(DataError, match=r"Column 'x' has 1001 values, and at most 1000 .* or plot_type='heatmap'"):
        plot_label_distributions(fds.partitioners["train"], "x")
    assert pyplot.get_fignums() == []
    _, _, frame = plot_label_distributions(fds.partitioners["train"], "x", "heatmap")
    assert frame.shape == (2, 1001)


def test_a_picture_can_be_saved(divided, tmp_path):
    figure, _, _ = plot_label_distributions(divided, "y", legend=True)
    figure.savefig(tmp_path / "parts.png")
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")


def test_what_there_is_no_picture_of_is_named(divided):
    with pytest.raises(DataError, match=r"plot_type is 'pie', and must be 'bar' or 'heatmap'"):
        plot_label_distributions(divided, "y", "pie")
    with pytest.raises(DataError, match=r"size_unit is 'kg', and must be 'absolute' or 'percent'"):
        plot_label_distributions(divided, "y", size_unit="kg")
    with pytest.raises(DataError, match=r"partition_id_axis is 'z'"):
        plot_label_distributions(divided, "y", partition_id_axis="z")
    with pytest.raises(DataError, match=r"no column 'label'"):
        plot_label_distributions(divided, "label")
    with pytest.raises(DataError, match=r"partitioner_list is empty"):
        plot_comparison_label_distribution([], "y")
    with pytest.raises(DataError, match=r"titles has 1 entries, and there are 2 partitioners"):
        plot_comparison_label_distribution([divided, divided], "y", titles=["one"])


def test_without_matplotlib_the_extra_is_named(divided, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(DataError, match=r"pip install 'umbel\[plot\]'"):
        plot_label_distributions(divided, "y")
