"""Well-formed questions without end: rounds go on, whoever is new comes in, and those who ask are refused, or wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from federations import wait_for
from measuring import MIB, Pace, no_more_than
from test_floods import with_few_files
from test_floods_beside_bodies import running

pytestmark = pytest.mark.system

CROWD = Path(__file__).parent / "crowd.py"


class Crowd:
    """Asks for so many seconds, from a process of its own."""

    def __init__(self, federation, kind, *, sessions, connections, seconds):
        command = [sys.executable, CROWD, federation.port, sessions, connections, seconds, kind]
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "in\n"

    def ends(self):
        said, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0
        print(said)
        return said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def attack(federation, kind, **options):
    with Crowd(federation, kind, **options) as crowd:
        crowd.ends()


def test_a_list_of_thousands_of_names_is_refused_by_its_size(federation, strange):
    server = federation.server()
    server.says("Waiting for clients")
    client = strange(federation.port, "m")
    client.register()
    answer = client.request("POST", "/v1/next", {"have": [""] * 5_000})
    assert answer.status == 400
    assert "length <= 256" in answer.why
    answer = client.request("POST", "/v1/next", {"have": [f"{n}" for n in range(10_000)]})
    assert answer.status == 413
    assert "longer than 12288 bytes" in answer.why
    assert client.request("POST", "/v1/next", {"have": ["a" * 100] * 60}).status == 200


@pytest.mark.alone
def test_polls_of_many_names_do_not_hold_up_the_rounds(federation):
    server = running(federation)
    with no_more_than(server, 64 * MIB), Pace(server).at_least(0.4):  # a half, on a machine that does nothing else
        attack(federation, "names", sessions=4, connections=8, seconds=5)
    server.says("left: in quarantine for 60 s: 20 of its requests were refused")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waiting", "finished", "names", "more names", "garbage"])
def test_whoever_is_new_comes_in_while_27_clients_ask_on_31_connections_each(federation, kind):
    server = running(federation)
    with (
        no_more_than(server, 100 * MIB),
        Pace(server).at_least(0.5),
        Crowd(federation, kind, sessions=27, connections=31, seconds=20) as crowd,
    ):
        federation.client("c").says("Received fit", 15)  # the server says of a crowd how many they are, not who
        crowd.ends()
    assert "Traceback" not in server.text


@pytest.mark.slow
def test_whoever_is_new_comes_in_though_one_address_has_all_connections(federations):
    """A server that may open few files: its connections are shared out by address, and there by client."""
    federation = federations(start=with_few_files)
    server = running(federation)
    with Crowd(federation, "waiting", sessions=12, connections=31, seconds=10) as crowd:
        server.says("127.0.0.1: more than 256 connections in all")
        federation.client("c").says("Received fit", 15)  # the server says of a crowd how many they are, not who
        number = Pace(server).rounds()
        server.says(f"[ROUND {number + 5}/")
        crowd.ends()
    for name in "abc":
        assert f"client {name} left" not in server.text
    said = [line for line in server.text.splitlines() if "more than 256 connections" in line and "127.0.0.1" in line]
    assert len(said) == 1, said


def test_whoever_comes_and_goes_all_the_time_does_so_unheard(federation, strange):
    """Under one name, and under a new one each time: a line in log and journal for the first few, and few from then on."""
    server = federation.server()
    server.says("Waiting for clients")
    client = strange(federation.port, "same")
    for _ in range(40):
        client.register()
        client.request("POST", "/v1/leave")
    assert server.text.count("client same joined") == 3
    for number in range(400):
        client.name = f"new-{number}"
        client.register()
        client.request("POST", "/v1/leave")
    assert server.text.count(" joined") < 260
    for name in "ab":
        federation.client(name)  # from another address
    server.says("[ROUND 2/", 30)


def test_a_client_that_came_and_went_too_often_takes_part_later(federation, strange):
    """Nobody is refused for it: it waits, as long as it has to."""
    server = federation.server(clients=1)
    server.says("Waiting for clients")
    client = strange(federation.port, "m")
    for _ in range(3):
        client.register()
        client.request("POST", "/v1/leave")
    client.register()
    assert client.request("POST", "/v1/tasks/x/commit", {"crc32": 0}).verdict == "stale"  # it is there
    wait_for(lambda: server.text.count("client m joined") >= 3, 30, "it has joined three times")
    assert server.text.count("client m joined") == 3


def test_a_stranger_is_told_nothing_where_identity_is_needed(federation, strange):
    pytest.importorskip("cryptography", reason="needs the extra security")
    pytest.importorskip("blake3", reason="needs the extra security")
    server = federation.server(require_identity=True)
    server.says("Waiting for clients")
    answer = strange(federation.port, "m").request("GET", "/")
    assert answer.status == 200
    assert answer.body == b"Umbel server\n"
