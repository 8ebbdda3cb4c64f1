"""Fuzzes every reader of foreign bytes: python tests/fuzz/run.py [--seconds 60] [TARGET ...]

With atheris (coverage-guided), each target in a process of its own, as many at once as there are cores; without it, with
hypothesis on the same targets, and it says so. Then sequences of events on the coordinator, 40 for each second, and
schemathesis on the HTTP surface. An input that breaks a target is kept in `.fuzz/`; exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".fuzz"


def fuzz(name: str) -> None:
    """One target, in this process, until the time is up. Called again by this program with libFuzzer's own options."""
    import atheris

    with atheris.instrument_imports(include=["umbel", "json"]):
        from targets import TARGETS
    atheris.Setup([sys.argv[0], *sys.argv[3:]], TARGETS[name].run)
    atheris.Fuzz()


def process(name: str, seconds: float) -> tuple[str, bool, str]:
    """A target in a process of its own: its name, whether it held, and what is to be said."""
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    from targets import TARGETS

    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={max(seconds, 1):.0f}", "-rss_limit_mb=2048", "-timeout=10", f"-artifact_prefix={FOLDER}/"]
    command = [sys.executable, __file__, "--target", name, *options, str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    executed = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
    said = executed[-1] if executed and not done.returncode else done.stderr[-6000:]
    return name, done.returncode == 0, said


def broken(names: list[str], seconds: float) -> list[str]:
    """Runs these targets; those that did not hold."""
    if find_spec("atheris") is None:
        print("atheris is not installed here (it has no wheel for this Python or machine): hypothesis takes its place")
        examples = str(int(max(seconds * 100, 200)))
        command = [sys.executable, "-m", "pytest", "-q", str(HERE / "test_targets.py"), "-p", "no:cacheprovider"]
        done = subprocess.run(command, env=os.environ | {"UMBEL_FUZZ_EXAMPLES": examples}, check=False)
        return ["targets"] * (done.returncode != 0)
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, held, said in pool.map(lambda n: process(n, seconds), names):
            print(f"{name:12s} {'held' if held else 'BROKE'}: {said}", flush=True)
            failed += [] if held else [name]
    return failed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    names = asked.targets or [*TARGETS, "coordinator", "http"]
    failed = []
    asked_for = [name for name in names if name in TARGETS]
    if asked_for:
        failed += broken(asked_for, asked.seconds)
    if "coordinator" in names:
        sequences = str(int(max(asked.seconds * 40, 100)))
        machine = HERE.parent / "rounds" / "test_coordinator_machine.py"
        command = [sys.executable, "-m", "pytest", "-q", str(machine), "-p", "no:cacheprovider"]
        done = subprocess.run(command, env=os.environ | {"UMBEL_FUZZ_SEQUENCES": sequences}, check=False)
        print(f"{'coordinator':12s} {'BROKE' if done.returncode else 'held'}: {sequences} sequences", flush=True)
        failed += ["coordinator"] * (done.returncode != 0)
    if "http" in names:
        if find_spec("schemathesis") is None:
            print("schemathesis is not installed here: THE HTTP SURFACE IS NOT FUZZED")
        else:
            begun = time.monotonic()
            done = subprocess.run([sys.executable, str(HERE / "surface.py"), f"{max(asked.seconds, 10)}"], check=False)
            print(f"{'http':12s} {'BROKE' if done.returncode else 'held'} for {time.monotonic() - begun:.0f} s")
            failed += ["http"] * (done.returncode != 0)
    print(f"0 passed, {len(failed)} failed" if failed else f"{len(names)} passed, 0 failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--target"]:
        sys.path.insert(0, str(HERE))
        fuzz(sys.argv[2])
    else:
        sys.exit(main())
