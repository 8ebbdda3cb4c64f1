"""What can go wrong between a framework's model and a list of arrays. Knows no framework."""

from __future__ import annotations

from umbel.errors import UmbelError

__all__ = ["FrameworkMissing", "ParametersMismatch", "ParametersNotReady"]


class FrameworkMissing(UmbelError, ImportError):
    """The framework is not installed, or cannot run beside what is."""


class ParametersMismatch(UmbelError, ValueError):
    """Arrays that are not this model's: wrong number, names or shapes. Nothing was changed."""


class ParametersNotReady(UmbelError, RuntimeError):
    """Parameters that the framework has not given values yet."""
