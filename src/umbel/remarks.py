"""What the code that answers a question has to say about it, beside the answer: lines for whoever runs the run.

Below the runtime there is no log. Whoever asks the question listens, and writes down what was said. Where nobody listens,
because a program calls a strategy by itself, `remark` returns False, and its caller raises what it would have said.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

__all__ = ["Remark", "listening", "remark"]


class Remark(NamedTuple):
    """`text` is said the first time that something of this `kind` is, and `again` from then on; "" is not said.

    What has the kind () is said each time.
    """

    kind: tuple[str, ...]
    text: str
    again: str = ""


_heard: ContextVar[list[Remark] | None] = ContextVar("umbel_remarks", default=None)


@contextmanager
def listening() -> Iterator[list[Remark]]:
    """Collects what is remarked inside, in this thread.

    >>> with listening() as heard:
    ...     remark(Remark(("loss",), "the loss of client a is nan"))
    True
    >>> [said.text for said in heard], remark(heard[0])
    (['the loss of client a is nan'], False)
    """
    heard: list[Remark] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def remark(said: Remark) -> bool:
    """Says it to whoever listens; False where nobody does."""
    heard = _heard.get()
    if heard is not None:
        heard.append(said)
    return heard is not None
