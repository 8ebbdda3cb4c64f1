"""Each test gets a federation of its own; what it started is gone when it ends."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fixtures import federation, federations, reference  # noqa: F401
