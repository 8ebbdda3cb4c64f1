"""What a round asks of clients before its step, for strategies whose rounds have several exchanges.

A strategy's `exchanges` are a list of them, its `configure_exchange` says who takes part in each, and its
`aggregate_exchanges` makes the next model where the step needs more answers than those of `FIT`. All answers are in the
journal, so a server that resumes goes on in the middle of a round.
"""

from umbel.rounds.exchanges import FIT, Exchange, To
from umbel.rounds.messages import Kind
from umbel.strategies.base import Answers

__all__ = ["FIT", "Answers", "Exchange", "Kind", "To"]
