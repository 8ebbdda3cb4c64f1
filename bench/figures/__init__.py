"""The figures of the bench, by name: each measures itself and returns its rows."""

from __future__ import annotations

from figures import huge, idle, imports, install, large, mean, small

__all__ = ["FIGURES"]

FIGURES = {
    "small": ("3 rounds, 2 clients, 1,000 floats, fit and evaluate", small.measure),
    "large": ("10 client processes, 100 MB, echo", large.measure),
    "huge": ("one client, 2.56 GB in 10 arrays, echo", huge.measure),
    "idle": ("idle clients", idle.measure),
    "import": ("import, beyond `import numpy`", imports.measure),
    "install": ("`pip install`", install.measure),
    "mean": ("the ordered mean of ten times 25 M float32, from files", mean.measure),
}
