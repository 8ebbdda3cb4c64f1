"""`umbel runs` and `umbel resume`, in the folder where the servers ran."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.system

UMBEL = ("-c", "from umbel.cli import main; main()")


@pytest.mark.slow
def test_a_killed_run_is_listed_and_resumed(federation, reference):
    killed = federation.server()
    federation.clients("a", "b", hold=["fit.2"])
    federation.reached("a", "fit.2")
    killed.kill()
    for name in "ab":
        federation.open(name, "fit.2")
    run = killed.text.split(", run ")[1].split(",")[0]

    listed = federation.program("umbel", *UMBEL, "runs")
    assert listed.ends() == 0
    assert listed.text.splitlines()[1].split()[0] == run
    for words in ("unfinished", "FedAvg", "3", "server.py"):
        assert words in listed.text.splitlines()[1]

    resumed = federation.program("server", *UMBEL, "resume", run)
    assert resumed.ends(40) == 0
    assert f"run {run}" in resumed.text
    assert "[ROUND 1/3]" not in resumed.text
    federation.all_end()
    assert federation.model() == reference()
    assert [number for number, _ in federation.history()["losses_distributed"]] == [1, 2, 3]

    again = federation.program("umbel", *UMBEL, "resume", run)
    assert again.ends() == 1
    assert again.text == f"Error: run {run} has finished; only an unfinished run can go on\n"
    listed = federation.program("umbel", *UMBEL, "runs")
    assert listed.ends() == 0
    assert "finished" in listed.text.splitlines()[1]


def test_a_run_that_is_not_there(federation):
    for arguments in (["resume", "no-such-run"], ["resume", "../../etc"]):
        asked = federation.program("umbel", *UMBEL, *arguments)
        assert asked.ends() == 1
        assert asked.text.startswith("Error: ")
        assert "Traceback" not in asked.text
    assert not (federation.folder / "umbel-runs").exists()  # looking makes nothing
