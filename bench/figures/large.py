"""Ten clients and a model of 100 MB: what a byte costs, in time and in memory."""

from __future__ import annotations

from federation import Federation
from measure import Row, Settings, Target, alternating, at_most, at_most_floors, at_most_flwr


def measure(settings: Settings) -> list[Row]:
    shape = Federation(clients=10, floats=settings.scaled(25_000_000), rounds=3, skip=1, deadline=400.0)
    flwr = settings.flwr
    taken = alternating(
        settings.repeats,
        floor=lambda: shape.floor(settings.python),
        umbel=lambda: shape.run(settings.python, "umbel"),
        flwr=flwr and (lambda: shape.run(flwr, "flwr")),
    )
    ours, floor, theirs = taken["umbel"], taken["floor"], taken["flwr"]

    def row(what: str, unit: str, key: str, *targets: Target, with_floor: bool = True) -> Row:
        return Row(what, unit, ours[key], floor.get(key) if with_floor else None, theirs.get(key), targets)

    return [
        row("a round", "s", "seconds", at_most_flwr(6), at_most_floors(7)),
        row("CPU of the server, a round", "s", "server_cpu"),
        row("CPU of all clients, a round", "s", "client_cpu"),
        row("peak memory of the server", "MB", "server_peak", at_most(300, "MB"), with_floor=False),
        row("peak memory of a client", "MB", "client_peak", at_most(400, "MB"), with_floor=False),
    ]
