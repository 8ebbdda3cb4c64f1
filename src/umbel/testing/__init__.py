"""Fakes for tests of programs that use Umbel: the real loop with clients in this process, no socket and no thread."""

from umbel.testing.local import LocalRun, run_locally

__all__ = ["LocalRun", "run_locally"]
