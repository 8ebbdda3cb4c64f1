"""Keys, tokens, signatures and members, without a network."""

from __future__ import annotations

import base64
import contextlib
import re
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("cryptography", reason="needs the extra security")
pytest.importorskip("blake3", reason="needs the extra security")

import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from umbel.cli import main
from umbel.client import start_client
from umbel.errors import SecurityError, ServerUnreachable, StoreUnavailable, WireError
from umbel.runtime.security.identity import Identity, new_token, token_key
from umbel.runtime.security.members import Members, NotAdmitted
from umbel.runtime.security.signatures import Window, signature_base, signed_with, signs
from umbel.server import start_server
from umbel.training import NumPyClient


def test_the_example_of_rfc_9421_verifies():
    """Appendix B.2.6, "Signing a Request Using ed25519"."""
    key = base64.urlsafe_b64decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs=")
    inputs = (
        'sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    signature = "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
    signed = signed_with(inputs, signature)["sig-b26"]
    request = {
        "date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "@method": "POST",
        "@path": "/foo",
        "@authority": "example.com",
        "content-type": "application/json",
        "content-length": "18",
    }
    base = signature_base([(name, request[name]) for name in signed.components], signed.text)
    assert signs(key, signed.signature, base)
    assert not signs(key, signed.signature, base.replace(b"POST", b"PUT"))
    assert signed.parameters == {"created": "1618884473", "keyid": "test-key-ed25519"}


@given(st.lists(st.integers(0, 3000), max_size=60))
def test_each_number_counts_once(numbers):
    window, used, newest = Window(), set(), 0
    for number in numbers:
        wanted = number not in used and number > newest - Window.SIZE
        assert window.takes(number) == wanted, (number, newest)
        used.add(number)
        newest = max(newest, number)


@given(st.text(max_size=60), st.text(max_size=60))
def test_headers_that_are_no_signatures_raise_nothing_but_wire_errors(inputs, signature):
    with contextlib.suppress(WireError):
        signed_with(inputs, signature)


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "folder" / "a.pem"
    identity = Identity(path)
    first = identity.public
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SecurityError, match=r"another process has the key .*a\.pem"):
        Identity(path)
    identity.close()
    again = Identity(path)
    assert again.public == first
    again.close()
    path.chmod(0o644)
    with pytest.raises(SecurityError, match=r"can be read by others; chmod 600"):
        Identity(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_named(tmp_path, data):
    path = tmp_path / "a.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(SecurityError, match=r"a.pem' is no Ed25519 key in PEM; remove it"):
        Identity(path)


@pytest.mark.parametrize("text", ["", "secret", "umbel-join-", "umbel-join-abc", "umbel-join-" + "é" * 43])
def test_a_token_that_is_none_is_refused(text):
    with pytest.raises(SecurityError, match="`umbel server token` prints one"):
        token_key(text)


def test_a_token_is_a_key_of_which_the_server_keeps_the_public_half():
    text, kept = new_token()
    assert token_key(f" {text}\n").public == kept
    assert kept.hex() not in text
    assert base64.urlsafe_b64decode(text.removeprefix("umbel-join-") + "=") != kept


@pytest.fixture
def members(tmp_path):
    members = Members(f"sqlite:///{tmp_path / 'runs.sqlite'}")
    yield members
    members.close()


def joined(members, client, key, *, only=None, seconds=60.0):
    return members.admit(client, key, token_key(members.new_token(client=only, seconds=seconds)).public)


A, B, C = (bytes([n]) * 32 for n in b"abc")


def test_a_token_lets_in_one_client_once(members):
    token = token_key(members.new_token(client=None, seconds=60.0)).public
    assert members.admit("a", A, token) is True
    assert members.admit("a", A, token) is False  # its key is known by now
    assert members.admit("a", A, b"") is False
    with pytest.raises(NotAdmitted, match="the join token has been used"):
        members.admit("b", B, token)


def test_who_is_not_let_in_is_told_why(members):
    joined(members, "a", A)
    with pytest.raises(NotAdmitted, match=r"has not joined; start the client with start_client\(join_token="):
        members.admit("b", B, b"")
    with pytest.raises(NotAdmitted, match="none of this server's"):
        members.admit("b", B, C)
    with pytest.raises(NotAdmitted, match="has expired"):
        joined(members, "b", B, seconds=-1.0)
    with pytest.raises(NotAdmitted, match="the join token is for c, not for b"):
        joined(members, "b", B, only="c")
    with pytest.raises(NotAdmitted, match="the name a belongs to another key"):
        joined(members, "a", B)
    with pytest.raises(NotAdmitted, match="belongs to a; give that name"):
        members.admit("b", A, b"")
    assert [member.client for member in members.list_all()] == ["a"]


def test_a_refused_client_does_not_spend_the_token(members):
    joined(members, "a", A)
    token = token_key(members.new_token(client=None, seconds=60.0)).public
    with pytest.raises(NotAdmitted, match="belongs to another key"):
        members.admit("a", B, token)
    assert members.admit("b", B, token)


def test_a_revoked_key_never_comes_back_and_its_name_may(members):
    joined(members, "a", A)
    members.revoke("a")
    assert members.find_revoked() == {A}
    with pytest.raises(NotAdmitted, match="has been revoked"):
        members.admit("a", A, b"")
    with pytest.raises(NotAdmitted, match="has been revoked"):
        joined(members, "a", A)
    assert joined(members, "a", B)
    with pytest.raises(SecurityError, match="no member is called 'nobody'; `umbel server members` lists them"):
        members.revoke("nobody")


def test_a_name_joins_twice_at_the_same_time_and_counts_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.sqlite'}"
    sides = [Members(url) for _ in range(4)]
    token = token_key(sides[0].new_token(client=None, seconds=60.0)).public

    def join(number):
        try:
            return sides[number % 4].admit(f"c{number}", bytes([number]) * 32, token)
        except NotAdmitted:
            return False

    with ThreadPoolExecutor(4) as pool:
        let_in = list(pool.map(join, range(16)))
    assert sum(let_in) == 1
    assert len(sides[0].list_all()) == 1
    for side in sides:
        side.close()


def test_a_database_that_is_busy_for_a_moment_is_one_to_be_asked_again(members, tmp_path):
    """`StoreUnavailable` is what a client hears as "try again soon"; any other `StoreError` ends the server."""
    token = token_key(members.new_token(client=None, seconds=60.0)).public
    sa.event.listen(members._database.engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout=0"))
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="cannot read or write the list of members: database is locked"):
            members.admit("a", A, token)
        another.execute("ROLLBACK")
    assert members.admit("a", A, token)


def umbel(folder, *arguments):
    return CliRunner().invoke(main, ["server", *arguments, "--store", str(folder)])


def test_the_command_line_makes_lists_and_revokes(tmp_path):
    made = umbel(tmp_path, "token", "--client", "a", "--hours", "1")
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert re.fullmatch(r"umbel-join-[\w-]{43}", token)
    members = Members(f"sqlite:///{tmp_path / 'runs.sqlite'}")
    members.admit("a", A, token_key(token).public)
    members.close()
    assert token.removeprefix("umbel-join-").encode() not in (tmp_path / "runs.sqlite").read_bytes()
    assert re.search(r"^ +a +[0-9a-f]{32} ", umbel(tmp_path, "members").stdout, re.M)
    assert umbel(tmp_path, "revoke", "a").exit_code == 0
    again = umbel(tmp_path, "revoke", "a")
    assert again.exit_code == 1
    assert "no member is called 'a'" in again.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["token", "--hours", "-1"], "-1 is not more than 0 and at most 87,600"),
        (["token", "--hours", "nan"], "nan is not more than 0"),
        (["token", "--client", "St. Mary's"], "use 1 to 128 letters"),
        (["members"], "nobody has joined in"),
        (["revoke", "a"], "nobody has joined in"),
    ],
)
def test_a_command_that_cannot_be_makes_no_store(tmp_path, arguments, words):
    done = umbel(tmp_path / "typo", *arguments)
    assert done.exit_code
    assert words in done.output
    assert not (tmp_path / "typo").exists()


def test_a_store_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    done = umbel(tmp_path / "file", "token")
    assert done.exit_code == 1
    assert re.search("the store's folder '.*file' cannot be made: File exists", done.output)


def test_an_identity_does_not_go_with_plain_http_beyond_this_machine(tmp_path):
    with pytest.raises(SecurityError, match=r"does not go with plain HTTP beyond this machine \(0.0.0.0:0\): give"):
        start_server(server_address="0.0.0.0:0", require_identity=True, store=tmp_path)
    with pytest.raises(SecurityError, match="keeps its members in the store; leave out store=None"):
        start_server(server_address="127.0.0.1:0", require_identity=True, store=None)


def test_long_names_have_keys_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["больница-" * 6 + end for end in "12"]
    for name in names:
        with pytest.raises(ServerUnreachable):
            start_client(
                server_address="127.0.0.1:9", client=NumPyClient(), client_id=name, join_token=new_token()[0], max_retries=0
            )
    assert len(list((tmp_path / "umbel-identity").glob("*.pem"))) == 2
    for name in ("больница-" * 12, "病院" * 64):
        with pytest.raises(ServerUnreachable):  # without a key, too
            start_client(server_address="127.0.0.1:9", client=NumPyClient(), client_id=name, max_retries=0)


def test_a_client_without_the_extra_hears_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=re.escape("pip install 'umbel[security]'")):
        start_client(server_address="127.0.0.1:1", client_fn=lambda cid: None, join_token="umbel-join-" + "A" * 43)
