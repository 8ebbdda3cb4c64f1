"""Lines about metrics that were left out because there was no room for them. Knows names of clients; knows no transport."""

from __future__ import annotations

from umbel.runtime.log import logger

__all__ = ["Surplus"]

LINES = 20  # of a run: where ten thousand simulated clients run the same code, one of them tells enough


class Surplus:
    """Says of each client once what did not count of its training, and once of its evaluation; of twenty at most."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def say(self, client: str, kind: str, what: str) -> None:
        if (client, kind) in self._said or len(self._said) >= LINES:
            return
        self._said.add((client, kind))
        logger.warning(
            "%s: %s of client %s are more than there is room for and do not count, the rest does; "
            "max_metrics= and max_metrics_size= make room%s",
            kind,
            what,
            client,
            ". More lines like this are left out" if len(self._said) == LINES else "",
        )
