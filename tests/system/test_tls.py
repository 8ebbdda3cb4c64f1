"""TLS and mutual TLS between real processes: who is let in, and what whoever is not reads on either side."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess

import pytest
from federations import together

pytest.importorskip("cryptography", reason="needs the extra security: TLS IS NOT TESTED HERE")

from umbel.runtime.security.certificates import issue, make_authority

pytestmark = pytest.mark.system

HERE = ["localhost", "127.0.0.1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Certificates as `umbel certs` makes them, and some that are wrong: name → path of the certificate, and of its key."""
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    for folder in (ours, theirs):
        make_authority(folder, days=10)
    files = {
        "ca": (ours / "ca.pem", ours / "ca.key"),
        "other ca": (theirs / "ca.pem", theirs / "ca.key"),
        "server": issue(ours, "server", "localhost", HERE, days=1, server=True),
        "expired": issue(ours, "expired", "localhost", HERE, days=-0.001, server=True),
        "elsewhere": issue(ours, "elsewhere", "example.org", ["example.org"], days=1, server=True),
        "client": issue(ours, "client", "client", [], days=1, server=False),
        "expired client": issue(ours, "expired-client", "client", [], days=-0.001, server=False),
        "other client": issue(theirs, "client", "client", [], days=1, server=False),
    }
    return {name: [str(path) for path in pair] for name, pair in files.items()}


def certificates(made, server="server"):
    return [made["ca"][0], *made[server]]


def test_a_federation_trains_over_tls(federation, reference, made):
    server = federation.server(rounds=1, certificates=certificates(made))
    server.says("Waiting for clients")
    assert f"https://127.0.0.1:{federation.port}" in server.text
    assert "Plain HTTP" not in server.text
    federation.clients("a", "b", root_certificates=made["ca"][0])
    assert server.ends() == 0
    federation.all_end()
    assert federation.model() == reference(rounds=1)


# The server's certificate; what the client is given; the end of what the client says, and what the server does.
ALIKE = {
    "a CA that the client does not have": (
        "server",
        {"root_certificates": "other ca"},
        "ServerRefused: .* not from a CA that this client trusts; give root_certificates= the CA",
        "a client does not trust this server's CA; give it the CA's certificate",
    ),
    "no CA of one's own": (
        "server",
        {"insecure": False},
        "ServerRefused: .* not from a CA that this client trusts; give root_certificates= the CA",
        "a client does not trust this server's CA; give it the CA's certificate",
    ),
    "an expired certificate": (
        "expired",
        {"root_certificates": "ca"},
        "ServerRefused: .* the server's certificate has expired, or this machine's clock is wrong; renew it by `umbel certs",
        "a client has found this server's certificate expired",
    ),
    "another name": (
        "elsewhere",
        {"root_certificates": "ca"},
        "ServerRefused: .* certificate is for another name than the one in server_address=; connect by a name that it has",
        "a client does not accept this server's certificate: it is for another name",
    ),
    "a client without TLS": (
        "server",
        {},
        "ServerRefused: .*this port speaks TLS; connect by https, and give an Umbel client root_certificates=",
        "a client speaks plain HTTP to this TLS port; give it root_certificates=",
    ),
    "a server without TLS": (None, {"root_certificates": "ca"}, "ServerRefused: .* the server speaks no TLS; leave out", ""),
}


def test_either_side_says_what_is_wrong_and_what_to_do(federations, made):
    def story(case, certificate, options, client_words, server_words):
        federation = federations(case.replace(" ", "-"))
        more = {} if certificate is None else {"certificates": certificates(made, certificate)}
        server = federation.server(rounds=1, **more)
        server.says("Waiting for clients")
        given = {key: made[value][0] if key == "root_certificates" else value for key, value in options.items()}
        client = federation.client("a", **given)
        assert client.ends() == 1, case
        last = client.text.strip().splitlines()[-1]
        assert re.search(client_words, last), f"{case}: {last}"
        server.says(server_words)
        assert server.alive
        assert "joined" not in server.text

    together(story, *((case, *rest) for case, rest in ALIKE.items()))


def test_mutual_tls_lets_in_whoever_has_a_certificate_of_the_ca(federation, reference, made):
    server = federation.server(rounds=1, certificates=certificates(made), require_client_certificate=True)
    server.says("Waiting for clients")
    trusting = {"root_certificates": made["ca"][0]}
    refused = {
        "none": ({}, "asks for a client's certificate: start_client(client_certificate=(certificate, key))"),
        "other": ({"client_certificate": made["other client"]}, "does not trust the CA of this client's certificate"),
        "expired": ({"client_certificate": made["expired client"]}, "has found this client's certificate expired"),
    }
    strangers = [(federation.client(name, **trusting, **given), words) for name, (given, words) in refused.items()]
    for stranger, words in strangers:
        assert stranger.ends() == 1
        last = stranger.text.strip().splitlines()[-1]
        assert "ServerRefused" in last
        assert words in last
    server.says("a client's certificate is not from this server's CA, and it is refused; make one by `umbel certs client")
    server.says("a client's certificate has expired, and it is refused")
    server.says("refused POST '/v1/register' with 403: this server asks for a client's certificate")
    federation.clients("a", "b", **trusting, client_certificate=made["client"])
    assert server.ends() == 0
    federation.all_end()
    assert federation.model() == reference(rounds=1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_reads_what_to_do(federation, made):
    server = federation.server(certificates=certificates(made), require_client_certificate=True)
    server.says("Waiting for clients")
    url = f"https://127.0.0.1:{federation.port}/"

    def curl(*arguments):
        done = subprocess.run(["curl", "-sS", *arguments, url], capture_output=True, text=True, timeout=20, check=False)
        return done.returncode, done.stdout + done.stderr

    ours = ("--cacert", made["ca"][0])
    code, said = curl(*ours)
    assert (code, said.count("\n")) == (0, 1)
    assert "asks for a client's certificate" in said
    assert "curl --cert and --key" in said
    certificate, key = made["other client"]
    code, said = curl(*ours, "--cert", certificate, "--key", key)
    assert code != 0
    assert "unknown ca" in said
    server.says("make one by `umbel certs client NAME`")
    certificate, key = made["client"]
    assert curl(*ours, "--cert", certificate, "--key", key)[1].startswith("Umbel server, run ")


def test_nothing_older_than_tls_1_2_is_spoken(federation, made):
    server = federation.server(certificates=certificates(made))
    server.says("Waiting for clients")
    old = ssl.create_default_context(cafile=made["ca"][0])
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", federation.port), 10) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname="localhost")
    server.says("a client speaks a TLS older than 1.2, and is refused")
