"""MXNet from the outside: its tests run in its own environment, and the tutorial runs as a user runs it.

`scripts/separate-env` finds or builds that environment. Where no Python is old enough, these tests are skipped and say so.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "mxnet-from-centralized-to-federated"
NOT_HERE = 3  # exit code of scripts/separate-env


@pytest.fixture(scope="module")
def mxnet_python():
    """The path of a Python that has MXNet and umbel."""
    found = subprocess.run([sys.executable, ROOT / "scripts" / "separate-env", "mxnet"], capture_output=True, text=True)
    if found.returncode == NOT_HERE:
        pytest.skip(f"NO MXNET TEST HAS RUN. {found.stderr.strip()}")
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture(scope="module")
def good_accuracy():
    """What three rounds reach at least on the MNIST that can be had here: all of it .92, its 5,000 digits .83."""
    fetched = subprocess.run([sys.executable, ROOT / "scripts" / "fetch-data"], capture_output=True, text=True)
    assert fetched.returncode == 0, fetched.stderr
    return 0.88 if "70,000 digits" in fetched.stdout else 0.75


@pytest.fixture
def tutorial(mxnet_python, tmp_path):
    """run.sh in a session of its own: the server on this Python, two clients on MXNet's. Nothing of it may be left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PYTHON": mxnet_python,
        "SERVER_PYTHON": sys.executable,
        "PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        [EXAMPLE / "run.sh"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            yield run
        finally:
            left = in_session(run.pid)
            for process in left:
                process.kill()
    assert not left, f"run.sh left {left}"


def in_session(session):
    """The processes of a session that are still running."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass
    return found


@pytest.mark.slow
@pytest.mark.system
def test_everything_about_mxnet_holds_in_its_own_environment(mxnet_python):
    checks = ["tests/frameworks/mxnet", "--doctest-modules", "src/umbel/frameworks/mxnet.py"]
    ran = subprocess.run(
        [mxnet_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *checks],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout


def test_where_mxnet_cannot_run_its_import_says_what_to_do():
    """With numpy 2 as without MXNet."""
    code = "import importlib.util as u, numpy; raise SystemExit(bool(u.find_spec('mxnet')) and numpy.__version__ < '2')"
    if subprocess.run([sys.executable, "-c", code]).returncode:
        pytest.skip("MXNet runs in this environment")
    ran = subprocess.run([sys.executable, "-c", "import umbel.frameworks.mxnet"], capture_output=True, text=True)
    assert "FrameworkMissing: MXNet" in ran.stderr
    assert "with Python 3.11 or 3.12: pip install 'umbel[mxnet]'" in ran.stderr


@pytest.mark.tutorial
def test_the_tutorial_learns_mnist_over_three_rounds(good_accuracy, tutorial):
    output, _ = tutorial.communicate(timeout=300)
    assert tutorial.returncode == 0, output
    accuracies = [float(accuracy) for accuracy in re.findall(r"^round \d+: accuracy ([\d.]+)$", output, re.MULTILINE)]
    print(f"accuracies: {accuracies}")
    assert len(accuracies) == 3, output
    assert accuracies[2] >= good_accuracy
    assert accuracies[2] > accuracies[0]


@pytest.mark.slow
@pytest.mark.tutorial
def test_ctrl_c_ends_the_tutorial_and_everything_it_started(good_accuracy, tutorial):
    for line in tutorial.stdout:
        if line.startswith("training acc at epoch 0"):
            break
    tutorial.send_signal(signal.SIGINT)
    output, _ = tutorial.communicate(timeout=60)
    assert tutorial.returncode == 130, output
