"""A small model: what a round costs when there is next to nothing to send."""

from __future__ import annotations

from federation import Federation
from measure import Row, Settings, Target, alternating, at_most_flwr


def measure(settings: Settings) -> list[Row]:
    shape = Federation(clients=2, floats=1000, rounds=3, evaluate=True)
    flwr = settings.flwr
    taken = alternating(
        settings.repeats if settings.quick else max(settings.repeats, 7),  # a run takes seconds, its rounds milliseconds
        floor=lambda: shape.floor(settings.python),
        umbel=lambda: shape.run(settings.python, "umbel"),
        umbel_without_store=lambda: shape.run(settings.python, "umbel", store=None),
        flwr=flwr and (lambda: shape.run(flwr, "flwr")),
    )

    def row(what: str, ours: str, key: str, *targets: Target) -> Row:
        floor, theirs = (1000 * taken[name][key] if taken[name] else None for name in ("floor", "flwr"))
        return Row(what, "ms", 1000 * taken[ours][key], floor, theirs, targets)

    return [
        row("a round", "umbel", "seconds", at_most_flwr(1)),
        row("a round, `store=None`", "umbel_without_store", "seconds", at_most_flwr(1)),
        row("CPU of the server, a round", "umbel", "server_cpu"),
        row("CPU of the server, a round, `store=None`", "umbel_without_store", "server_cpu"),
    ]
