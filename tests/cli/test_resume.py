"""`umbel resume` starts a program again as, and where, it was started."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os, sys
from umbel.runtime.fingerprints import fingerprint
from umbel.runtime.run_registry import open_run
from umbel.server.strategy import FedAvg
from umbel.strategies.classic.adapter import host_of
from .settings import ROUNDS

strategy = FedAvg()
mine = fingerprint(host_of(strategy).declared, strategy.pace, seed=0, num_rounds=ROUNDS, port=1)
opened = open_run("umbel-runs", mine, fresh=True)
what = "began" if opened.stored is None else "goes on"
print(opened.run, what, os.getcwd(), *sys.argv[1:], os.environ.get("UMBEL_RESUME"))
"""


def test_a_module_of_a_package_is_started_again_in_its_folder_from_anywhere(tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "package").mkdir(parents=True)
    elsewhere.mkdir()
    (home / "package" / "settings.py").write_text("ROUNDS = 3")
    (home / "package" / "server.py").write_text(PROGRAM)

    def said(folder, *arguments):
        program = [sys.executable, *arguments]
        return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True, env=os.environ).stdout.split()

    run, *rest = said(home, "-m", "package.server", "an argument")
    assert rest == ["began", str(home), "an", "argument", "None"]
    umbel = ("-c", "from umbel.cli import main; main()")
    again = said(elsewhere, *umbel, "resume", run, "--store", str(home / "umbel-runs"))
    assert again == [run, "goes", "on", str(home), "an", "argument", "None"]  # whom to resume is for one start
    assert list(elsewhere.iterdir()) == []
