"""Every error that Umbel raises on purpose.

An error names the thing, the value, the rule and the remedy. Whoever catches `UmbelError` catches them all; each class
also keeps the built-in family (`ValueError`, `OSError`, ...) that its cause belongs to.
"""

from __future__ import annotations

__all__ = [
    "ClientFailed",
    "ContentDamaged",
    "DataError",
    "ListenerFailed",
    "NotFinite",
    "QuorumNotMet",
    "Rejected",
    "RunLocked",
    "RunMismatch",
    "SecurityError",
    "ServerRefused",
    "ServerUnreachable",
    "SimulationError",
    "StoreError",
    "StoreUnavailable",
    "StrategyError",
    "TooFewFiles",
    "TooFewUpdates",
    "UmbelError",
    "WireError",
]


class UmbelError(Exception):
    """The root of every error below."""


class WireError(UmbelError, ValueError):
    """Bytes that are not what they claim to be: a broken header, an unknown dtype, a false length or checksum."""


class Rejected(UmbelError, ValueError):
    """A reply that the server's schema does not admit. The text is what the sender of the reply is told."""


class ClientFailed(UmbelError, RuntimeError):
    """A client could not do its task; its own error type, message and traceback are in the text."""


class QuorumNotMet(UmbelError, RuntimeError):
    """Too few clients answered, in every attempt that the pace allows."""


class StrategyError(UmbelError, RuntimeError):
    """A strategy, or a function given to one, answered something that no round can use."""


class SimulationError(UmbelError, ValueError):
    """A simulation that cannot begin: its clients, resources or workers are not what it needs."""


class TooFewUpdates(StrategyError):
    """Fewer updates came than an aggregation rule's promise needs; the round is void and the model stays."""


class NotFinite(StrategyError):
    """The next version, or what the strategy remembers, would not be finite; the round is void and the model stays."""


class ListenerFailed(UmbelError, OSError):
    """The thread that serves the network has ended before its run."""


class TooFewFiles(UmbelError, OSError):
    """This process may not open as many files as it needs."""


class ServerUnreachable(UmbelError, ConnectionError):
    """No server answered within `max_retries` or `max_wait_time`."""


class ServerRefused(UmbelError, ConnectionError):
    """The server will not have this client; its reason is in the text."""


class RunLocked(UmbelError, RuntimeError):
    """Another process already coordinates this run."""


class RunMismatch(UmbelError, ValueError):
    """A stored run cannot be continued with the strategy, schema or settings it was given."""


class SecurityError(UmbelError, ValueError):
    """A certificate, key or token that cannot be used, or a way in that its settings forbid."""


class StoreError(UmbelError, OSError):
    """The run's journal or its content files cannot be read or written."""


class ContentDamaged(StoreError):
    """A content file is gone, or is not what was written."""


class StoreUnavailable(StoreError):
    """The disk or the database refuses at the moment: trying again may help."""


class DataError(UmbelError, ValueError):
    """A dataset, split or partition that does not exist or cannot be used as asked."""
