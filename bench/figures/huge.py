"""One client and a model of 2.5 GB: that it works, and in how much memory.

No comparison: a message of flwr's classic server ends at 2 GB.
"""

from __future__ import annotations

from federation import Federation
from measure import Row, Settings, alternating, at_most

TENSORS = 10


def measure(settings: Settings) -> list[Row]:
    shape = Federation(clients=1, floats=settings.scaled(64_000_000), tensors=TENSORS, rounds=1, deadline=300.0)
    model = 4e-6 * shape.floats * TENSORS  # MB
    taken = alternating(
        min(settings.repeats, 2),
        floor=lambda: shape.floor(settings.python),
        umbel=lambda: shape.run(settings.python, "umbel"),
    )
    ours, floor = taken["umbel"], taken["floor"]
    return [
        Row("a round", "s", ours["seconds"], floor.get("seconds")),
        Row("peak memory of the server", "MB", ours["server_peak"], targets=(at_most(300, "MB"),)),
        Row("peak memory of the client", "MB", ours["client_peak"], model, targets=(at_most(3 * model + 200, "MB"),)),
    ]
