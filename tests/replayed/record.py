"""Runs the cases, and records what comes out of them: `python tests/replayed/record.py` writes `recorded.json` anew.

What is recorded of a run: how it ended; every version of the model, a line per tensor; the History but for tracebacks; and
of runs that die in the middle the newest version that they keep, with the strategy's memory. There are no times, paths,
ports or names of runs in it.

A record that changes is a change for users. Say which and why in CHANGELOG.md, in the commit that records it anew.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from case import Case, tensor_text
from cases import CASES

from umbel.params import Params
from umbel.server import History, ServerConfig
from umbel.simulation import start_simulation

__all__ = ["differences", "left_by", "recorded", "simulate"]

RECORDED = Path(__file__).parent / "recorded.json"
SHOWN = 6  # differences; the first are those that the others follow from


def recorded() -> dict[str, dict]:
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


def simulate(
    case: Case, folder: Path, *, backend: str = "inline", dying: Callable[[int], None] = lambda number: None
) -> dict:
    """What is left of this run when it has happened in this folder."""
    try:
        history = start_simulation(
            client_fn=case.client_fn,
            num_clients=None if case.names is not None else case.clients,
            clients_ids=case.names,
            config=ServerConfig(num_rounds=case.rounds, round_timeout=case.timeout),
            strategy=case.made(dying=dying),
            backend=backend,
            workers=2,
            store=folder if case.dies else None,
            progress=False,
            **case.simulated,
        )
        return left_by(case, history, folder)
    except Exception as error:
        return {"ended": f"{type(error).__name__}: {error}"}


def left_by(case: Case, history: History, folder: Path) -> dict:
    """What is recorded: the History, and the files of the newest run in this folder."""
    fields = json.loads(history.to_json())
    fields["failures"] = [_failure(note) for note in fields["failures"]]
    metrics = fields["metrics_centralized"]
    model = {name: dict(metrics.pop(name)) for name in sorted(metrics) if name.startswith("tensor ")}
    files = sorted(folder.rglob("model-*.safetensors")) if case.dies else []
    newest = [path for path in files if path.stem.split("+")[0] == files[-1].stem.split("+")[0]]
    return {"model": model, "kept": {_kept(path): _tensors(case, path) for path in newest}, "history": fields}


def _kept(path: Path) -> str:
    """`model-000003+momentum.safetensors` is "3 momentum"."""
    version, _, slot = path.stem.removeprefix("model-").partition("+")
    return f"{int(version)} {slot or 'model'}"


def _tensors(case: Case, path: Path) -> list[str]:
    params = Params.from_bytes(bytearray(path.read_bytes()))
    return [
        f"{spec.name}: {tensor_text(array, rough=case.rough)}"
        for spec, array in zip(params.schema.specs, params.arrays(), strict=True)
    ]


def _failure(note: dict) -> str:
    place = re.sub(r"\S*\.py\b[^ ]*( line \d+)?|\bline \d+", "FILE", note["text"])
    return f"round {note['round']} {note['kind']}: {note['client']} {note['reason']}: {place}"


def differences(before: dict, now: dict) -> list[str]:
    """What differs between two records, the model's earliest version first."""
    old, new = dict(_flat(before)), dict(_flat(now))
    places = sorted({*old, *new}, key=_order)
    found = [
        f"{' / '.join(place)}: recorded {old.get(place, 'nothing')}, now {new.get(place, 'nothing')}"
        for place in places
        if old.get(place) != new.get(place)
    ]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return found[:SHOWN] + more


def _flat(value: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every value with its place: keys, rounds of series, and positions of lists."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, (*place, str(key)))
    elif isinstance(value, (list, tuple)) and value:
        series = all(isinstance(item, (list, tuple)) and len(item) == 2 for item in value)
        for position, item in enumerate(value):
            key, inside = (f"round {item[0]}", item[1]) if series else (str(position), item)
            yield from _flat(inside, (*place, key))
    else:
        yield place, json.dumps(value)


def _order(place: tuple[str, ...]) -> tuple[int, int, tuple[str, ...]]:
    kinds = ("ended", "model", "kept", "history")
    kind = kinds.index(place[0]) if place and place[0] in kinds else len(kinds)
    number = next((int(found[0]) for part in place[1:] if (found := re.findall(r"\d+$", part))), 0)
    return kind, number, place


def main(chosen: list[str]) -> None:
    before, lines = recorded(), {}
    for name, case in CASES.items():
        if chosen and name not in chosen:
            lines[name] = before.get(name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            lines[name] = json.loads(json.dumps(simulate(case, Path(folder))))
        told = differences(before[name], lines[name]) if name in before else ["new"]
        for text in told:
            print(f"{name}: {text}", flush=True)
    for name in sorted(set(before) - set(CASES)):
        print(f"{name}: gone")
    rows = [f"{json.dumps(name)}: {json.dumps(line, separators=(',', ':'))}" for name, line in lines.items() if line]
    RECORDED.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"{len(rows)} runs are in {RECORDED.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
