"""What makes two starts the same run, and how to start it again: a fingerprint, as plain values that a database keeps.

Knows scripts, strategies and their rules; knows no stores. Where two starts differ, the difference can be said.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

import msgspec

from umbel.dialogue import as_text
from umbel.errors import RunMismatch
from umbel.pace import Pace
from umbel.rounds.coordinator import Rules
from umbel.rounds.exchanges import ROUND, Exchange
from umbel.strategies.host import Declared

__all__ = ["ATTRIBUTES", "MAY_CHANGE", "SECRET", "Fingerprint", "as_path", "differences", "fingerprint", "rules_of"]

SECRET = "secret"  # in a fingerprint: the run has one, for noise, and which cipher makes it; never the secret itself
ATTRIBUTES = "changed attributes"  # in a fingerprint: names of those that the strategy has changed while the run was on
MAY_CHANGE = {"script", "script hash", "strategy keywords", "port", "num_rounds"}  # in a run that is resumed by name

_NO_MATTER = {"command", "folder", "start", SECRET}  # in a fingerprint: how, where, as which of its script a run began
_starts = itertools.count(1)  # of this process, so far

Fingerprint = dict[str, object]


def fingerprint(declared: Declared, pace: Pace, *, seed: int, num_rounds: int, port: int | None = None) -> Fingerprint:
    """What makes two starts the same run, and how to start it again. Of the initial parameters, their schema counts."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    kind, initial = type(declared.strategy), declared.initial_parameters
    plain = {name: value for name, value in declared.settings.items() if isinstance(value, (bool, int, float, str))}
    if declared.transforms.links:
        plain["transform"] = repr(declared.transforms)
    made = {
        "script": os.path.abspath(script) if script else "",
        "script hash": _hash(script) if script and os.path.isfile(script) else "",
        "strategy": f"{kind.__module__}.{kind.__qualname__}",
        "strategy keywords": plain,
        "model schema": None if initial is None else [[spec.dtype, list(spec.shape)] for spec in initial.stream()[0].specs],
        "rules": _as_values(declared.min_available, pace, declared.exchanges),
        "seed": seed,
        "port": port,
        "num_rounds": num_rounds,
        "command": sys.orig_argv[1:],
        "folder": _working_folder(),
        "start": next(_starts),
    }
    return {name: _as_text(value) for name, value in made.items()}


def as_path(text: str) -> str:
    """The path that a fingerprint shows, as the system has it: without the escapes of bytes that are no Unicode.

    >>> as_path("caf\\\\udce9/train.py") == os.fsdecode(b"caf\\xe9/train.py")
    True
    """
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), text)


def _as_text(value: object) -> object:
    """Escapes what a database does not take: names of files may have bytes that are no Unicode."""
    match value:
        case str():
            return as_text(value)
        case list():
            return [_as_text(each) for each in value]
        case dict():
            return {name: _as_text(each) for name, each in value.items()}
        case _:
            return value


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it has been removed
        return ""


def rules_of(run: str, stored: Mapping[str, object]) -> Rules:
    """The rules that a run was made under. Raises `RunMismatch` for rules that this Umbel does not know."""
    rules = stored.get("rules")
    if isinstance(rules, dict):
        with contextlib.suppress(TypeError, ValueError, KeyError):
            exchanges = msgspec.convert(rules["exchanges"], tuple[Exchange, ...]) if "exchanges" in rules else ROUND
            return Rules(run=run, min_available=int(rules["min_available"]), pace=Pace(**rules["pace"]), exchanges=exchanges)
    raise RunMismatch(f"run {run} was made under rules that this Umbel does not know: {rules}; use the Umbel that wrote it")


def _as_values(min_available: int, pace: Pace, exchanges: tuple[Exchange, ...]) -> dict[str, object]:
    """Rules as values; those of a classic round have no exchanges, as older Umbels wrote them."""
    classic = {"min_available": min_available, "pace": asdict(pace)}
    return classic if exchanges == ROUND else {**classic, "exchanges": msgspec.to_builtins(exchanges)}


def differences(stored: Fingerprint, mine: Fingerprint) -> list[str]:
    """How a start differs from the one that began the run, each in a few words; empty where it is the same run."""
    found = []
    for name, value in mine.items():
        before = stored.get(name)
        if name in _NO_MATTER or before == value:
            continue
        if name == "num_rounds":
            if isinstance(before, int) and isinstance(value, int) and value >= before:
                continue
            found.append(f"num_rounds has shrunk from {before} to {value}")
        elif name == "rules":
            theirs, ours = _rules(stored), _rules(mine)
            if theirs != ours:
                found.append(f"rules: {theirs} then, {ours} now")
        elif name == "script hash":
            found.append("the script has changed")
        elif name == "strategy keywords" and isinstance(before, dict) and isinstance(value, dict):
            changed = [k for k in {**before, **value} if before.get(k) != value.get(k)]
            found += [f"{key}: {before.get(key)!r} then, {value.get(key)!r} now" for key in sorted(changed)]
        else:
            found.append(f"{name}: {before!r} then, {value!r} now")
    return found


def _rules(stored: Fingerprint) -> str:
    """Rules in words; what an older Umbel did not know has its default."""
    try:
        rules = rules_of("", stored)
    except RunMismatch:
        return str(stored.get("rules"))
    exchanges = " → ".join(exchange.name for exchange in rules.exchanges)
    return f"{rules.min_available} clients, {rules.pace}{'' if len(rules.exchanges) == len(ROUND) else f', {exchanges}'}"


def _hash(path: str) -> str:
    return blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
