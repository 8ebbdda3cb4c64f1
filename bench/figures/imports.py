"""What an import costs beyond numpy's own."""

from __future__ import annotations

import functools
import subprocess
import tempfile

from measure import Row, Sample, Settings, alternating, at_most

STATEMENTS = {
    "import": "import {}",
    "client": "import {0}; {0}.client.start_client",
    "server": "import {0}; {0}.server.start_server",
}


def measure(settings: Settings) -> list[Row]:
    flwr = settings.flwr
    taken = alternating(
        3 if settings.quick else max(settings.repeats, 9),
        floor=lambda: {name: _seconds(settings.python, "", "import numpy") for name in STATEMENTS},
        umbel=functools.partial(_times, settings.python, "umbel"),
        flwr=flwr and functools.partial(_times, flwr, "flwr"),
    )
    targets = {"import": (at_most(0.2, "s"),)}

    def row(name: str) -> Row:
        what = f"`{STATEMENTS[name].format('umbel')}`"
        return Row(what, "s", taken["umbel"][name], taken["floor"][name], taken["flwr"].get(name), targets.get(name, ()))

    return [row(name) for name in STATEMENTS]


def _times(python: str, package: str) -> Sample:
    return {name: _seconds(python, "import numpy", text.format(package)) for name, text in STATEMENTS.items()}


def _seconds(python: str, before: str, statement: str) -> float:
    code = f"import time; {before}\nt = time.perf_counter(); {statement}\nprint(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory(prefix="umbel-bench-") as folder:
        done = subprocess.run([python, "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)
