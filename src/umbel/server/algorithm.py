"""A strategy of one's own as a value, and what its functions are given."""

from umbel.dialogue.results import Result, Round, current_round
from umbel.strategies.algorithm import Algorithm, Ask, Asking, Combined

__all__ = ["Algorithm", "Ask", "Asking", "Combined", "Result", "Round", "current_round"]
