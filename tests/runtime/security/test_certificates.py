"""Certificates and contexts: what is made, and what is refused before a socket is opened."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("cryptography", reason="needs the extra security")

from click.testing import CliRunner
from cryptography import x509

from umbel.cli import main
from umbel.client import start_client
from umbel.errors import SecurityError
from umbel.runtime.security.certificates import issue, make_authority
from umbel.runtime.security.tls import client_context, server_context
from umbel.server import start_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    make_authority(folder, days=10)
    issue(folder, "server", "localhost", ["localhost", "127.0.0.1"], days=1, server=True)
    issue(folder, "client", "client", [], days=1, server=False)
    return folder


def umbel(*arguments):
    return CliRunner().invoke(main, ["certs", *map(str, arguments)])


def test_init_makes_all_that_a_first_federation_needs(tmp_path):
    done = umbel("init", "10.1.2.3", "umbel.example.org", "--folder", tmp_path / "c")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        f"{name}.{kind}" for name in ("ca", "server", "client") for kind in ("pem", "key")
    }
    assert all((path.stat().st_mode & 0o777) == 0o600 for path in (tmp_path / "c").glob("*.key"))
    assert "start_server(certificates=(" in done.output
    server_context(tuple(tmp_path / "c" / n for n in ("ca.pem", "server.pem", "server.key")), **OPTIONS)


def test_init_does_not_replace_a_ca(folder):
    before = (folder / "ca.key").read_bytes()
    done = umbel("init", "--folder", folder)
    assert done.exit_code == 1
    assert "ca.pem exists already; a new CA would make everything that it has issued worthless" in done.output
    assert (folder / "ca.key").read_bytes() == before


def test_a_certificate_can_be_renewed(folder):
    before = (folder / "client.pem").read_bytes()
    assert umbel("client", "client", "--folder", folder).exit_code == 0
    assert (folder / "client.pem").read_bytes() != before
    client_context(folder / "ca.pem", (folder / "client.pem", folder / "client.key"))


@pytest.mark.parametrize("name", ["../x", "ca", "server", "..", "a b", "x" * 65, ""])
def test_a_client_of_such_a_name_would_overwrite_something(folder, name):
    done = umbel("client", name, "--folder", folder)
    assert done.exit_code == 1
    assert "cannot name a client's files" in done.output


def test_there_is_no_issuing_without_a_ca(tmp_path):
    done = umbel("server", "localhost", "--folder", tmp_path)
    assert done.exit_code == 1
    assert "`umbel certs init` makes one" in done.output


def test_a_host_may_have_a_long_name(tmp_path):
    host = "internal-k8s-default-umbel-0123456789-1234567890.eu-central-1.elb.amazonaws.com"
    assert umbel("init", host, "--folder", tmp_path).exit_code == 0
    server_context((tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key"), **OPTIONS)
    certificate = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["höst"], "the host 'höst' cannot be in a certificate"),
        (["localhost", "--days", "0"], "0 is not in the range 1<=x<=36500"),
        (["localhost", "--days", "1000000000"], "is not in the range"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(tmp_path, arguments, words):
    done = umbel("init", *arguments, "--folder", tmp_path)
    assert done.exit_code
    assert words in done.output
    assert list(tmp_path.iterdir()) == []


OPTIONS = {"client_certificates": False, "failed": print}

WRONG = {
    "no PEM": (lambda f: (b"x", f / "server.pem", f / "server.key"), r"the CA certificate is no certificate in PEM"),
    "latin 1": (lambda f: (b"\xe9", f / "server.pem", f / "server.key"), r"the CA certificate is no certificate in PEM"),
    "a key that is no key": (lambda f: (f / "ca.pem", f / "server.pem", b"k"), r"the key is not in PEM"),
    "no such file": (lambda f: (f / "ca.pem", f / "nowhere.pem", f / "server.key"), r"nowhere.pem', cannot be read"),
    "another's key": (lambda f: (f / "ca.pem", f / "server.pem", f / "client.key"), r"the key is another certificate's"),
    "key and certificate swapped": (lambda f: (f / "ca.pem", f / "server.key", f / "server.pem"), r"cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_unusable_certificates_are_named(folder, case):
    make, words = WRONG[case]
    with pytest.raises(SecurityError, match=words):
        server_context(make(folder), **OPTIONS)


def test_contexts_take_bytes_as_well_as_paths(folder):
    pem = {path.name: path.read_bytes() for path in folder.iterdir()}
    server_context((pem["ca.pem"], pem["server.pem"], pem["server.key"]), **OPTIONS)
    client_context(pem["ca.pem"], (pem["client.pem"], pem["client.key"]))


def test_contexts_take_text(folder):
    text = {path.name: path.read_text() for path in folder.iterdir()}
    client_context(text["ca.pem"], (text["client.pem"], text["client.key"]))


@pytest.mark.parametrize("secret", ["-----BEGIN PRIVATE KEY-----\nMC4CAQ\n", "MC4CAQ\n" * 5, "MC4CAQ" * 100, "MC4CAQ\0"])
def test_a_key_in_the_wrong_place_is_not_shown(folder, secret):
    for pair in ((folder / "client.pem", secret), (secret, folder / "client.key")):
        with pytest.raises(SecurityError) as raised:
            client_context(folder / "ca.pem", pair)
        assert "MC4CAQ" not in str(raised.value)


def test_a_server_s_address_that_is_none_ends_a_script_with_a_line():
    with pytest.raises(SystemExit, match=r"^umbel: server_address '::1' is not host:port"):
        start_server(server_address="::1", store=None)


def test_contradictory_arguments_are_refused(folder):
    with pytest.raises(SecurityError, match=re.escape("require_client_certificate=True needs TLS: give certificates=")):
        start_server(server_address="127.0.0.1:0", require_client_certificate=True, store=None)
    with pytest.raises(ValueError, match="insecure=True contradicts root_certificates= and client_certificate="):
        start_client(
            server_address="127.0.0.1:1",
            client_fn=lambda cid: None,
            insecure=True,
            client_certificate=(folder / "client.pem", folder / "client.key"),
        )


def test_without_the_extra_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'umbel[security]'")):
        make_authority(tmp_path, days=1)
