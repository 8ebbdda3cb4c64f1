"""How many workers fit: processors and GPUs of this machine, divided by what a client asks for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from umbel.errors import SimulationError

__all__ = ["Places", "client_needs", "gpus", "places", "processors"]


@dataclass(frozen=True, slots=True)
class Places:
    """`slots` workers; `devices` says which GPUs each sees, None where clients ask for none."""

    slots: int
    devices: tuple[str, ...] | None


def client_needs(resources: Mapping[str, float] | None) -> tuple[float, float]:
    """CPUs and GPUs per client. Raises `SimulationError`.

    >>> client_needs({"num_cpus": 2, "num_gpus": 0.25}), client_needs(None)
    ((2.0, 0.25), (1.0, 0.0))
    """
    given = dict(resources or {})
    needs = []
    for name, default in (("num_cpus", 1.0), ("num_gpus", 0.0)):
        value = given.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise SimulationError(f"client_resources[{name!r}] = {value!r}; it is a number of {name[4:].upper()}, 0 or more")
        needs.append(float(value))
    if given:
        raise SimulationError(f"client_resources has {sorted(given)}; it knows num_cpus and num_gpus")
    if not any(needs):
        raise SimulationError("client_resources asks for nothing at all; give num_cpus or num_gpus")
    return needs[0], needs[1]


def places(
    cpus: float, gpus_needed: float, *, workers: int | None, available_cpus: int, available_gpus: tuple[str, ...]
) -> Places:
    """How many clients fit side by side, and which GPUs each sees. Raises `SimulationError` where not one does.

    A client that needs less than a GPU shares one; one that needs several has them to itself.

    >>> places(1, 0.5, workers=None, available_cpus=8, available_gpus=("0", "1"))
    Places(slots=4, devices=('0', '0', '1', '1'))
    """
    if cpus > available_cpus:
        raise SimulationError(
            f"a client asks for num_cpus={cpus:g}, this machine has {available_cpus}; ask for less in client_resources"
        )
    if gpus_needed > len(available_gpus):
        raise SimulationError(
            f"a client asks for num_gpus={gpus_needed:g}, this machine shows {len(available_gpus)}; ask for less in "
            "client_resources, or see whether CUDA_VISIBLE_DEVICES hides them"
        )
    slots = workers if workers is not None else max(int(available_cpus / cpus), 1) if cpus else available_cpus
    if not gpus_needed:
        return Places(slots, None)
    if gpus_needed < 1:
        share = int(1 / gpus_needed)
        devices = tuple(gpu for gpu in available_gpus for _ in range(share))
    else:
        width = -(-int(gpus_needed * 1000) // 1000)
        groups = range(0, len(available_gpus) - width + 1, width)
        devices = tuple(",".join(available_gpus[start : start + width]) for start in groups)
    slots = min(slots, len(devices))
    return Places(slots, devices[:slots])


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU "))
