"""What a simulation cannot do is said before it begins. Knows what people give `start_simulation`; starts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from umbel import events
from umbel.dialogue import as_text
from umbel.errors import SimulationError
from umbel.events import Event
from umbel.rounds.messages import Populated
from umbel.training import Client, NumPyClient, client_maker

__all__ = ["check_cohort", "check_maker", "demand_parameters", "population_of"]


def population_of(num_clients: int | None, clients_ids: Sequence[str] | None) -> Populated:
    """Raises `SimulationError`."""
    if (num_clients is None) == (clients_ids is None):
        raise SimulationError("give start_simulation either num_clients= or clients_ids=, one of them")
    if num_clients is not None:
        return Populated(num_clients)
    names = tuple(str(name) if isinstance(name, str) else "" for name in (() if clients_ids is None else clients_ids))
    if not all(names) or len(set(names)) < max(len(names), 1) or any(name != as_text(name) for name in names):
        raise SimulationError("clients_ids are the clients' names: at least one, all of them Unicode text and different")
    return Populated(0, names)


def check_cohort(needs: Mapping[str, int], population: int) -> None:
    """Raises `SimulationError` where the strategy waits for more clients than there are; `needs` is by keyword."""
    for name, number in needs.items():
        if number > population:
            raise SimulationError(
                f"the strategy needs {number} clients ({name}={number}), the simulation has {population}; "
                f"raise num_clients, or lower {name}"
            )


def check_maker(client_fn: object) -> None:
    """Raises `SimulationError` for what makes no clients."""
    try:
        client_maker(client_fn)
    except (TypeError, ValueError) as error:
        raise SimulationError(f"client_fn= makes no clients: {error}") from None
    if isinstance(client_fn, (Client, NumPyClient)) and not getattr(client_fn, "stands_for_many", False):
        raise SimulationError(
            f"client_fn= is a {type(client_fn).__name__}; a simulation makes many: give a function that makes one, "
            "such as lambda context: MyClient(context.node_id)"
        )


def demand_parameters(event: Event) -> None:
    """Ends a simulation whose client raises where it is asked for parameters: the others run the same code."""
    match event:
        case events.TaskFailed(kind="parameters", reason=reason) if reason != "empty":
            raise SimulationError(
                f"client {event.client} could not give initial parameters: {event.text}. "
                "Implement get_parameters(), or give the strategy initial_parameters="
            )
        case _:
            pass
