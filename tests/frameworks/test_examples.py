"""Each framework's example learns, and comes to the same bits inline, in processes, over the network and gone on with.

Every program is a process of its own, because frameworks do not like each other's company, and Keras has one backend.
"""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.frameworks

ROOT = Path(__file__).parents[2]
EVERYWHERE = Path(__file__).parent / "programs" / "everywhere.py"
NEEDS = {
    "torch_cnn": ["torch"],
    "lightning_mlp": ["torch", "lightning"],
    "transformers_bert": ["torch", "transformers", "accelerate"],
    "peft_lora": ["torch", "transformers", "accelerate", "peft"],
    "keras_cnn": ["keras"],
    "flax_mlp": ["jax", "flax", "optax"],
    "equinox_mlp": ["jax", "equinox", "optax"],
    "sklearn_sgd": ["sklearn"],
    "xgboost_bagging": ["xgboost"],
    "lightgbm_bagging": ["lightgbm"],
    "mlx_mlp": ["mlx"],
}
KEPT = {"torch_cnn", "keras_cnn-jax"}  # a run is gone on with in two frameworks: what is kept is the same in all of them


@pytest.fixture
def start(tmp_path):
    """Starts programs, each in a folder of its own, and leaves none behind."""
    started = []

    def start_program(*arguments, **environment):
        started.append(launch(tmp_path, *arguments, **environment))
        return started[-1]

    yield start_program
    for program in started:
        with program:  # closes its pipes, and waits
            program.kill()


def launch(folder, example, backend, *arguments, **environment):
    folder = folder / "-".join(arguments[:1] + arguments[2:])
    folder.mkdir(exist_ok=True)
    known = {"PYTHONPATH": str(ROOT / "src"), "KERAS_BACKEND": backend or "jax", "HF_HUB_OFFLINE": "1"}
    known["OMP_NUM_THREADS"] = "1"  # over the network, as in a simulation: PyTorch's bits depend on it
    known["PYTHONWARNINGS"] = "ignore::FutureWarning"  # of libraries, about each other
    return subprocess.Popen(
        [sys.executable, EVERYWHERE, example, *arguments],
        cwd=folder,
        env=os.environ | known | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(program, code=0):
    """What it has printed, once it has ended; it may print nothing else, and what it logs are Umbel's lines alone."""
    output, errors = program.communicate(timeout=300)
    assert program.returncode == code, errors
    foreign = [line for line in errors.splitlines() if line.strip() and not line.startswith(("INFO", "WARNING"))]
    assert not foreign, foreign
    return output.strip()


@pytest.mark.parametrize(
    ("example", "backend"),
    [("keras_cnn", "jax"), ("keras_cnn", "torch"), *((example, "") for example in NEEDS if example != "keras_cnn")],
)
def test_an_example_comes_to_the_same_bits_wherever_it_runs(example, backend, start, tmp_path):
    missing = [name for name in [*NEEDS[example], *([backend] if backend else []), "sklearn"] if find_spec(name) is None]
    if missing:
        pytest.skip(f"{example} IS NOT TESTED: there is no {', '.join(missing)} here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    meeting = start(example, backend, "meet", address)
    joined = [start(example, backend, "join", address, name) for name in ("0", "1")]
    inline, *others = said(meeting).splitlines()
    assert others == [inline] * 2
    assert [said(client) for client in joined] == ["", ""]  # trainers print nothing
    (_, first), (_, second) = json.loads(inline)["losses_distributed"]
    assert second < first
    if f"{example}-{backend}".strip("-") in KEPT:
        said(start(example, backend, "keep", str(tmp_path / "kept"), DIES_IN="2"), code=-9)
        assert said(start(example, backend, "keep", str(tmp_path / "kept"))) == inline
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "kept" not in path.parts]
    assert [path for path in left if "umbel-runs" not in path.parts] == []
