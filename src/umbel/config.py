"""How long a run is, as the classic API writes it."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.keywords import check_fields
from umbel.suggest import SuggestsKeywords

__all__ = ["ServerConfig"]


@dataclass(frozen=True)
class ServerConfig(metaclass=SuggestsKeywords):
    """`num_rounds` of training; `round_timeout` is the time in seconds after which a cohort is waited for no longer."""

    num_rounds: int = 1
    round_timeout: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
