"""Learning curves of a History. matplotlib is imported when a picture is drawn: the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from umbel.dialogue import plain_scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from umbel.runtime.observers.history import History

__all__ = ["draw"]

Series: TypeAlias = list[tuple[int, object]]
Line: TypeAlias = tuple[list[int], list[float]]
PANEL = (4.2, 3.2)  # inches
ACROSS = 3  # panels side by side
COLOURS = {"clients": "C0", "central": "C1", "fit": "C2"}
DOTS = 60  # rounds; above, points are not marked


def draw(history: History, names: Sequence[str], axes: Axes | None, label: str) -> Figure:
    """What `History.plot` promises."""
    panels = _panels(history)
    if axes is not None and len(names) != 1:
        raise ValueError(f"axes= takes one panel, and {len(names) or 'no'} names are given; give one: {_list_names(panels)}")
    for name in names:
        if name not in panels:
            raise ValueError(f"the History has no numbers under {name!r}; it has {_list_names(panels)}")
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plot() needs matplotlib, which is not installed. Run: pip install 'umbel[plot]'") from error
    figure: Figure
    if axes is not None:
        drawn: Any = axes
        _panel(drawn, names[0], panels[names[0]], label, {})  # the axes' own colours, in turn: other runs may be there
        figure = drawn.figure
        return figure
    shown = {name: panels[name] for name in names} if names else panels
    across = min(len(shown), ACROSS) or 1
    down = -(-len(shown) // across) or 1
    figure, grid = pyplot.subplots(
        down, across, figsize=(PANEL[0] * across, PANEL[1] * down), squeeze=False, layout="constrained"
    )
    for place, (name, lines) in zip(grid.flat, shown.items(), strict=False):
        _panel(place, name, lines, label, COLOURS)
    for unused in grid.flat[len(shown) :]:
        unused.set_axis_off()
    return figure


def _panels(history: History) -> dict[str, dict[str, Line]]:
    """The lines of each panel; a name whose values are no numbers has none."""
    sources: tuple[tuple[str, Series, dict[str, Series]], ...] = (
        ("clients", history.losses_distributed, history.metrics_distributed),
        ("central", history.losses_centralized, history.metrics_centralized),
        ("fit", [], history.metrics_distributed_fit),
    )
    panels: dict[str, dict[str, Line]] = {"loss": {}}
    for source, losses, metrics in sources:
        for name, series in (metrics | ({"loss": losses} if losses else {})).items():
            numbers = [(number, plain_scalar(value)) for number, value in series]
            points = [(number, float(value)) for number, value in numbers if isinstance(value, (bool, int, float))]
            if points:
                rounds, values = zip(*points, strict=True)
                panels.setdefault(name, {})[source] = [*rounds], [*values]
    return {name: lines for name, lines in panels.items() if lines}


def _panel(axes: Any, name: str, lines: dict[str, Line], label: str, colours: dict[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for source, (rounds, values) in lines.items():
        words = f"{label}, {source}" if label and len(lines) > 1 else label or source
        marker = "." if len(rounds) <= DOTS else ""
        axes.plot(rounds, values, marker=marker, color=colours.get(source), label=words)
    axes.set(title=name, xlabel="round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def _list_names(panels: dict[str, dict[str, Line]]) -> str:
    return ", ".join(map(repr, panels)) or "nothing to draw"
