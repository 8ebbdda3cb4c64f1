"""The crash matrix in its reduced form: a few failpoints in `make test`, every one of them once in `make test-all`.

`make chaos` runs the whole: every failpoint with every strategy and number of passes.
"""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from children import Zygote
from matrix import FAILPOINTS, Trial, reference_in, run_trial

import umbel

SOURCE = Path(umbel.__file__).parent
AT_ONCE = 6  # trials wait more than they work
FEW = ["journal.inside-transaction", "model.before-forget", "reply.after-settle", "resume.before-sweep"]


@pytest.fixture(scope="module")
def start():
    zygote = Zygote()
    yield zygote.launch
    zygote.close()


@pytest.mark.system
def test_a_process_killed_at_one_of_a_few_failpoints_changes_nothing(tmp_path, start):
    points = [point for point in FAILPOINTS if point.name in FEW]
    assert len(points) == len(FEW)
    assert killed_at(points, tmp_path, start, "SQLite", "FedAvg") == []


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize(
    ("database", "strategy"),
    [
        ("SQLite", "FedAvg"),
        ("SQLite", "three exchanges"),
        ("SQLite", "control variates"),
        ("PostgreSQL", "FedBuff by script"),
        ("SQLite", "over-selection by script"),
    ],
)
def test_a_process_killed_at_any_failpoint_changes_nothing(tmp_path, request, start, database, strategy):
    url = request.getfixturevalue("postgres").database() if database == "PostgreSQL" else None
    assert killed_at(FAILPOINTS, tmp_path, start, database, strategy, url) == []


def killed_at(points, folder, start, database, strategy, url=None):
    """Kills a process of a federation at each of these points. The trials that something is wrong with, which it prints."""
    bits = reference_in(folder, start)

    def tried(point):
        return run_trial(Trial(point, point.passes, strategy, database), folder / point.name, start, url, bits)

    with ThreadPoolExecutor(AT_ONCE) as workers:
        bad = [result for result in workers.map(tried, points) if not (result.fine and result.reached)]
    for result in bad:
        print(f"======== {result.trial}: lost {result.lost}, duplicated {result.duplicated}, different {result.different}")
        print(*result.wrong, sep="\n")
    return [f"{result.trial}{'' if result.reached else ' (not reached)'}" for result in bad]


def test_the_matrix_has_every_failpoint_that_the_source_has():
    named = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                assert isinstance(node.args[0], ast.Constant), f"{path}: a failpoint's name is a literal"
                named.add(node.args[0].value)
    elsewhere = {"migration.inside-transaction"}  # tests/runtime/test_older_databases.py
    assert {point.name for point in FAILPOINTS} == named - elsewhere
    assert len(named) >= 20
