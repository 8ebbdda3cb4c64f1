"""Ray from the outside: its tests run in its own environment, `.venvs/ray`, so that Ray stays optional.

Where Ray cannot be installed they are skipped and say so.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from members import client_fn

from umbel.simulation import start_simulation

ROOT = Path(__file__).parents[2]
NOT_HERE = 3  # exit code of scripts/separate-env


@pytest.mark.slow
@pytest.mark.system
def test_everything_about_ray_holds_in_its_own_environment():
    found = subprocess.run([sys.executable, ROOT / "scripts" / "separate-env", "ray"], capture_output=True, text=True)
    if found.returncode == NOT_HERE:
        pytest.skip(f"NO TEST WITH RAY HAS RUN. {found.stderr.strip()}")
    assert found.returncode == 0, found.stderr
    ran = subprocess.run(
        [found.stdout.strip(), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "tests/simulation/on_ray"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is in this environment")
def test_without_ray_the_error_says_what_to_install():
    with pytest.raises(ImportError, match=r"backend=\"ray\" needs Ray .*pip install 'umbel\[ray\]'"):
        start_simulation(client_fn=client_fn, num_clients=2, backend="ray")
