"""The members are importable by the tests and by the programs that they start.

The tests in `on_ray/` run where Ray is; from anywhere else `test_ray.py` runs them in its environment.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore = [] if find_spec("ray") else ["on_ray"]
