"""Cases and their members are importable by the tests and by the programs that they start."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "system")]
