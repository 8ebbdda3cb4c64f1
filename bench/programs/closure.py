"""Prints the names of the packages that installing one brings, itself included: the closure of its requirements here."""

from __future__ import annotations

import sys
from importlib.metadata import distribution

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ImportError:  # every pip carries a copy
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name


def closure(name: str) -> set[str]:
    """Follows requirements whose markers hold in this environment, with the extras that they ask for."""
    found: set[tuple[str, str]] = set()
    to_do = [(canonicalize_name(name), "")]
    while to_do:
        package, extra = to_do.pop()
        if (package, extra) in found:
            continue
        found.add((package, extra))
        for line in distribution(package).requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                to_do += [(canonicalize_name(needed.name), wanted) for wanted in ("", *needed.extras)]
    return {package for package, _ in found}


if __name__ == "__main__":
    print("\n".join(sorted(closure(sys.argv[1]))))
