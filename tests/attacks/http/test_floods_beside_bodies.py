"""Endless messages of which nothing is a body: none of it costs the server memory, and honest clients hardly notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flooder import KINDS
from measuring import MIB, Pace, no_more_than

pytestmark = [pytest.mark.system, pytest.mark.alone]

FLOODER = Path(__file__).parent / "flooder.py"


def attack(federation, kinds, *, connections=50, seconds=5, authority=""):
    command = [sys.executable, FLOODER, str(federation.port), ",".join(kinds), str(connections), str(seconds), authority]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    print(f"{', '.join(kinds)}: {done.stdout}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) >= connections


def certificates(federation):
    made = pytest.importorskip("umbel.runtime.security.certificates", reason="needs the extra security")
    pytest.importorskip("cryptography", reason="needs the extra security")
    made.make_authority(federation.folder, days=1)
    made.issue(federation.folder, "server", "localhost", ["localhost", "127.0.0.1"], days=1, server=True)
    made.issue(federation.folder, "member", "member", [], days=1, server=False)
    return [str(federation.folder / f"{name}.pem") for name in ("ca", "server")] + [str(federation.folder / "server.key")]


def running(federation, *, clients=None, **options):
    """A server with two clients that go on for ever, in quick rounds."""
    server = federation.server(rounds=100_000, strategy="ours", central=False, **options)
    server.says("Waiting for clients")
    federation.clients("a", "b", **(clients or {}))
    server.says("[ROUND 20/")
    return server


def flooded(federation, server, kinds, **options):
    with no_more_than(server, 100 * MIB), Pace(server).at_least(0.5):
        attack(federation, kinds, **options)
    assert server.alive
    assert "Traceback" not in server.text
    # Of a connection one line at once, and one a minute; of a request, one a minute for each reason.
    said = [line for line in server.text.splitlines() if line.startswith("WARNING : 127.0.0.1: ")]
    assert sum("refused POST" not in line and "refused GET" not in line for line in said) <= 2, said
    refused = kinds != ["pipelined"]  # each of these is a request that anybody may make: they wait for their turn
    assert refused <= len(said) <= 6, said


def test_fifty_connections_that_send_what_is_no_body(federation):
    flooded(federation, running(federation), KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_connections_of_one_kind(federation, kind):
    flooded(federation, running(federation), [kind])


@pytest.mark.slow
def test_the_same_over_tls(federation):
    ca, certificate, key = certificates(federation)
    server = running(federation, certificates=[ca, certificate, key], clients={"root_certificates": ca})
    flooded(federation, server, KINDS, seconds=20, authority=ca)


@pytest.mark.slow
def test_the_same_without_the_certificate_that_is_asked_for(federation):
    ca, certificate, key = certificates(federation)
    member = [str(federation.folder / name) for name in ("member.pem", "member.key")]
    server = running(
        federation,
        certificates=[ca, certificate, key],
        require_client_certificate=True,
        clients={"root_certificates": ca, "client_certificate": member},
    )
    flooded(federation, server, KINDS, seconds=20, authority=ca)
