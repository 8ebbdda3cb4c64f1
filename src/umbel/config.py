"""How long a run is, as the classic API writes it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerConfig"]


@dataclass(frozen=True)
class ServerConfig:
    """`num_rounds` of training; `round_timeout` is the time in seconds after which a cohort is waited for no longer."""

    num_rounds: int = 1
    round_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.num_rounds < 0:
            raise ValueError(f"num_rounds={self.num_rounds}; it must be 0 or more")
        if self.round_timeout is not None and not self.round_timeout > 0:
            raise ValueError(f"round_timeout={self.round_timeout} seconds; it must be above 0, or None for no limit")
