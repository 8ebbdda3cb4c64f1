"""One module per machine-learning framework, each imported by name: `from umbel.frameworks import mxnet`.

Nothing is imported here, because nobody has all of them installed.
"""

from __future__ import annotations

__all__: list[str] = []
