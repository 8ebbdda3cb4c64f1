"""A server that takes only who has joined: no false name gets in, nothing counts twice, nothing is changed on its way.

Every case of the tables is real HTTP; none of them changes a bit of the model.
"""

from __future__ import annotations

import shutil
import subprocess
import zlib

import msgspec
import numpy as np
import pytest

pytest.importorskip("cryptography", reason="needs the extra security: IDENTITIES ARE NOT TESTED HERE")
pytest.importorskip("blake3", reason="needs the extra security: IDENTITIES ARE NOT TESTED HERE")

from by_hand import Stranger, address, raw
from federations import wait_for

from umbel.runtime.security.identity import Identity, new_token, token_key
from umbel.runtime.security.members import Members
from umbel.runtime.security.signatures import Key, content_digest, fingerprint, hasher
from umbel.testing import ChaosProxy

pytestmark = pytest.mark.system


class Joiner(Stranger):
    """A stranger with a key, who signs by hand and as wrongly as one likes."""

    def __init__(self, port, name, folder, source, token=None):
        super().__init__(port, name, source)
        self.identity = Identity(folder / f"{name}-by-hand.pem", token)
        self.signing = False

    def message(self, **changes):
        mine = {"version": 1, "client_id": self.name, "key": self.identity.public, "token": self.identity.token}
        return msgspec.msgpack.encode(mine | changes)

    def challenge(self):
        answer = self._pool.request("POST", "/v1/register", body=self.message())
        assert answer.status == 401
        return answer.headers["accept-signature"].split('nonce="')[1].split('"')[0]

    def join(self, body=None, *, signed=None, nonce=None, change=lambda headers: headers):
        """Registers with this body; `signed` is what is signed instead of it."""
        body = self.message() if body is None else body
        headers = self.identity.join("POST", "/v1/register", signed or body, nonce or self.challenge())
        return self.bare("POST", "/v1/register", body, change(headers))

    def register(self):
        answer = self.join()
        assert answer.status == 200, answer
        self.session, self.signing = answer.body["session"], True

    def headers(self, method, path, data, **more):
        range_ = more.get("range")
        body = None if method == "GET" else [data]
        return {"umbel-session": self.session} | self.identity.sign(method, path, self.session, body=body, range_=range_)

    def request(self, method, path, body=b"", **headers):
        data = body if isinstance(body, bytes) else msgspec.msgpack.encode(body)
        if self.signing:
            headers = {key.replace("_", "-"): value for key, value in headers.items()}
            return self.bare(method, path, data, headers | self.headers(method, path, data, **headers))
        return super().request(method, path, data, **headers)

    def bare(self, method, path, body, headers):
        """Just that, with no session and no signature of its own."""
        session, self.session, signing, self.signing = self.session, headers.get("umbel-session", ""), self.signing, False
        try:
            return Stranger.request(self, method, path, body, **headers)
        finally:
            self.session, self.signing = session, signing

    def close(self):
        super().close()
        self.identity.close()


class Doors:
    """The operator's side, and whoever comes along."""

    def __init__(self, federation):
        self.federation = federation
        store = federation.folder / "umbel-runs"
        store.mkdir()
        self.members = Members(f"sqlite:///{store / 'runs.sqlite'}")
        self.known, self.met = [], 0

    def token(self, client=None, seconds=600.0):
        return self.members.new_token(client=client, seconds=seconds)

    def joiner(self, name, token=None):
        self.met += 1
        source = address(self.met)
        self.known.append(Joiner(self.federation.port, name, self.federation.folder, source, token))
        return self.known[-1]

    def member(self, name):
        joiner = self.joiner(name, self.token())
        joiner.register()
        return joiner

    def close(self):
        self.members.close()
        for joiner in self.known:
            joiner.close()


@pytest.fixture
def doors(federation):
    doors = Doors(federation)
    yield doors
    doors.close()


# ---- registering


def no_key(d):
    message = msgspec.msgpack.encode({"version": 1, "client_id": "x"})
    return d.joiner("x", d.token()).bare("POST", "/v1/register", message, {})


def no_token(d):
    return d.joiner("x").join()


def token_of_ones_own(d):
    return d.joiner("x", new_token()[0]).join()


def used_token(d):
    token = d.token()
    assert d.joiner("first", token).join().status == 200
    return d.joiner("x", token).join()


def expired_token(d):
    return d.joiner("x", d.token(seconds=-1.0)).join()


def token_for_another(d):
    return d.joiner("x", d.token(client="y")).join()


def an_honest_clients_name(d):
    x = d.joiner("x", d.token())
    return x.join(x.message(client_id="a"))


def ones_own_key_under_another_name(d):
    member = d.member("was-here")
    return member.join(member.message(client_id="x"))


def revoked_key(d):
    member = d.member("gone")
    d.members.revoke("gone")
    return member.join()


def invented_challenge(d):
    return d.joiner("x", d.token()).join(nonce="0.1.2")


def changed_challenge(d):
    x = d.joiner("x", d.token())
    stem, _, mac = x.challenge().rpartition(".")
    return x.join(nonce=f"{int(stem.split('.')[0], 16) + 60:x}.{stem.split('.')[1]}.{mac}")


def challenge_of_letters(d):
    return d.joiner("x", d.token()).join(nonce="zz.zz.zz")


def a_registration_twice(d):
    x, nonce = d.joiner("x", d.token()), None
    nonce = x.challenge()
    body = x.message()
    headers = x.identity.join("POST", "/v1/register", body, nonce)
    assert x.bare("POST", "/v1/register", body, headers).status == 200
    return x.bare("POST", "/v1/register", body, headers)


def anothers_key(d):
    x = d.joiner("x", d.token())
    body = x.message(key=Key(b"k" * 32).public)
    return x.join(body)


def a_short_key(d):
    x = d.joiner("x", d.token())
    return x.join(x.message(key=x.identity.public[:31]))


def without_the_tokens_signature(d):
    x, token = d.joiner("x"), token_key(d.token())
    return x.join(x.message(token=token.public))


def tokens_signature_for_another_challenge(d):
    x = d.joiner("x", d.token())
    body, one, other = x.message(), x.challenge(), x.challenge()
    first = x.identity.join("POST", "/v1/register", body, one)
    second = x.identity.join("POST", "/v1/register", body, other)
    mixed = {
        name: ", ".join([first[name].split(", join")[0], "join" + second[name].split(", join")[1]])
        for name in ("signature", "signature-input")
    }
    return x.bare("POST", "/v1/register", body, first | mixed)


def another_body(d):
    x = d.joiner("x", d.token())
    return x.join(x.message(client_id="y"), signed=x.message())


def another_body_with_its_digest(d):
    x = d.joiner("x", d.token())
    body = x.message(client_id="y")
    return x.join(body, signed=x.message(), change=lambda h: h | {"content-digest": content_digest([body])})


def covers_too_little(d):
    x = d.joiner("x", d.token())
    body, nonce = x.message(), x.challenge()
    headers = x.identity._sign([("@method", "POST"), ("@path", "/v1/register")], nonce, {"umbel": x.identity._key})
    return x.bare("POST", "/v1/register", body, headers)


def signature_input(change):
    def act(d):
        return d.joiner("x", d.token()).join(change=lambda h: h | {"signature-input": change(h["signature-input"])})

    return act


def signature(change):
    def act(d):
        return d.joiner("x", d.token()).join(change=lambda h: h | {"signature": change(h["signature"])})

    return act


REGISTRATIONS = {
    "no key": (no_key, 401, "takes only clients that have joined: start the client with start_client(join_token=...)"),
    "no token": (no_token, 403, "has not joined; start the client with start_client(join_token=...)"),
    "a token of one's own": (token_of_ones_own, 403, "none of this server's; `umbel server token` on the server's machine"),
    "a used token": (used_token, 403, "the join token has been used, and is good for one client"),
    "an expired token": (expired_token, 403, "the join token has expired"),
    "a token for another": (token_for_another, 403, "the join token is for y, not for x"),
    "an honest client's name": (an_honest_clients_name, 403, "the name a belongs to another key"),
    "one's own key under another name": (ones_own_key_under_another_name, 403, "belongs to was-here"),
    "a revoked key": (revoked_key, 403, "has been revoked"),
    "an invented challenge": (invented_challenge, 401, "takes only clients that have joined"),
    "a challenge made younger": (changed_challenge, 401, "takes only clients that have joined"),
    "a challenge of letters": (challenge_of_letters, 401, "takes only clients that have joined"),
    "a registration twice": (a_registration_twice, 401, "takes only clients that have joined"),
    "another's key": (anothers_key, 403, "the signature is not this request's"),
    "a key of 31 bytes": (a_short_key, 403, "of 32 bytes"),
    "a token without its signature": (without_the_tokens_signature, 403, "under the label join"),
    "a token's signature from before": (tokens_signature_for_another_challenge, 403, "under the label join"),
    "another body than the signed one": (another_body, 422, "not the one that was signed"),
    "another body, with its digest": (another_body_with_its_digest, 403, "the signature is not this request's"),
    "a signature of the path alone": (covers_too_little, 403, "does not cover content-digest"),
    "another algorithm": (signature_input(lambda s: s.replace("ed25519", "hmac-sha256")), 403, "another algorithm"),
    "another key's name": (signature_input(lambda s: s.replace('keyid="', 'keyid="0')), 403, "not this request's"),
    "a component that is not there": (signature_input(lambda s: s.replace('"@path"', '"@path" "x-y"')), 403, "exactly once"),
    "a component of the RFC's": (signature_input(lambda s: s.replace('"@path"', '"@path" "@query"')), 403, "exactly once"),
    "a component twice": (signature_input(lambda s: s.replace('"@path"', '"@path" "@path"')), 400, "a component twice"),
    "no parameters": (signature_input(lambda s: s.split(";")[0]), 401, "takes only clients that have joined"),
    "a label twice": (signature_input(lambda s: f"{s.split(', ')[0]}, {s}"), 400, "cannot be read"),
    "garbage for an input": (signature_input(lambda s: "umbel=(((("), 400, "cannot be read"),
    "an input of 60 KB": (signature_input(lambda s: s + ";x=1" * 15_000), 400, "too long"),
    "an empty input": (signature_input(lambda s: ""), 401, "takes only clients that have joined"),
    "no signature": (signature(lambda s: ""), 401, "takes only clients that have joined"),
    "a signature of another label": (signature(lambda s: s.replace("umbel", "other")), 401, "have joined"),
    "a signature of zeros": (signature(lambda s: "umbel=:" + "A" * 86 + "==:"), 403, "not this request's"),
    "half a signature": (signature(lambda s: s[:60] + "=:"), (400, 401, 403), ""),
    "a signature that is no base64": (signature(lambda s: "umbel=:é:"), 400, "cannot be read"),
    "a signature of one letter": (signature(lambda s: "umbel=:A:"), 400, "not in base64"),
}


# ---- within a session: m is a member that means harm, n another one


def unsigned(m, n):
    return m.bare("POST", "/v1/next", msgspec.msgpack.encode({"have": []}), {"umbel-session": m.session})


def _twice(m, method, path, body):
    data = msgspec.msgpack.encode(body) if body is not None else b""
    headers = m.headers(method, path, data)
    first = m.bare(method, path, data, headers)
    assert first.status < 400, first
    return m.bare(method, path, data, headers)


def a_reply_twice(m, n):
    return _twice(m, "POST", f"/v1/tasks/{m.task}/reply", m.offer(data=None))


def a_download_twice(m, n):
    path = "/v1/contents/model-000000"
    headers = m.headers("GET", path, b"")
    m.bare("GET", path, b"", headers)
    return m.bare("GET", path, b"", headers)


def after_two_thousand_others(m, n):
    path, data = "/v1/tasks/t/commit", msgspec.msgpack.encode({"crc32": 0})
    old = m.headers("POST", path, data)
    for _ in range(2_000):
        next(m.identity._numbers)
    assert m.bare("POST", path, data, m.headers("POST", path, data)).verdict == "stale"
    return m.bare("POST", path, data, old)


def with_nonce(nonce):
    def act(m, n):
        numbers, m.identity._numbers = m.identity._numbers, iter([nonce])
        try:
            return m.reply(m.offer())
        finally:
            m.identity._numbers = numbers

    return act


def elsewhere(method, path):
    """A signature for one's own reply, on another request."""

    def act(m, n):
        data = msgspec.msgpack.encode(m.offer())
        headers = m.headers("POST", f"/v1/tasks/{m.task}/reply", data)
        return m.bare(method, path.format(m=m, n=n), data, headers)

    return act


def ns_session(m, n):
    m_session, m.session = m.session, n.session
    try:
        return m.reply(m.offer())
    finally:
        m.session = m_session


def ns_session_in_the_header(m, n):
    data = msgspec.msgpack.encode(m.offer())
    headers = m.headers("POST", f"/v1/tasks/{m.task}/reply", data)
    return m.bare("POST", f"/v1/tasks/{m.task}/reply", data, headers | {"umbel-session": n.session})


def changed_body(change_digest):
    def act(m, n):
        path, good = f"/v1/tasks/{m.task}/reply", msgspec.msgpack.encode(m.offer())
        bad = msgspec.msgpack.encode(m.offer(num_examples=10**6))
        headers = m.headers("POST", path, good)
        return m.bare("POST", path, bad, headers | ({"content-digest": content_digest([bad])} if change_digest else {}))

    return act


def other_digest(m, n):
    path, data = f"/v1/tasks/{m.task}/reply", msgspec.msgpack.encode(m.offer())
    import umbel.runtime.security.identity as module

    real, module.content_digest = module.content_digest, lambda parts: "sha-256=:" + "A" * 43 + "=:"
    try:
        return m.bare("POST", path, data, m.headers("POST", path, data))
    finally:
        module.content_digest = real


def a_range_added(m, n):
    path = "/v1/contents/model-000000"
    return m.bare("GET", path, b"", m.headers("GET", path, b"") | {"range": "bytes=8-"})


def a_part_changed(m, n):
    """The upload begins anew: no changed byte is kept."""
    offer = m.offer()
    m.reply(offer | {"data": None})
    half = offer["size"] // 2
    path, good = f"/v1/tasks/{m.task}/data/0", offer["data"][:half]
    answer = m.bare("PUT", path, bytes(half), m.headers("PUT", path, good))
    assert m.reply(offer | {"data": None}).body["offset"] == 0
    return answer


def a_part_broken_off(m, n):
    """Half a part whose end nobody has signed for, and the rest as it should be: the sum over all of it says no."""
    offer = m.offer()
    data = offer["data"]
    m.reply(offer | {"data": None})
    path = f"/v1/tasks/{m.task}/data/0"
    headers = m.headers("PUT", path, data)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    changed = bytes(100)
    raw(m.port, f"PUT {path} HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(data)}\r\n\r\n".encode() + changed)
    begun = wait_for(lambda: [m.reply(offer | {"data": None}).body["offset"]], 5, "an offset")[0]
    assert m.put(begun, data[begun:]).body["offset"] == len(data)
    sent = data if begun == 0 else changed[:begun] + data[begun:]
    body = {"crc32": zlib.crc32(sent), "blake3": hasher(data).digest()}  # as if the crc had been fitted
    answer = m.request("POST", f"/v1/tasks/{m.task}/commit", body)
    assert begun == 100, "nothing was kept of the broken part: then there is nothing to see here"
    return answer


def a_commit_without_a_digest(m, n):
    offer = m.offer()
    m.reply(offer | {"data": None})
    m.put(0, offer["data"])
    return m.commit(offer["crc32"])


WITHIN = {
    "no signature": (unsigned, 403, "not signed with the key of its session"),
    "a reply twice": (a_reply_twice, 425, "seen before, and a signed request counts once"),
    "a download twice": (a_download_twice, 425, "seen before"),
    "one from long ago": (after_two_thousand_others, 425, "seen before"),
    "a nonce of letters": (with_nonce("abc"), 425, "seen before"),
    "a negative nonce": (with_nonce("-5"), 425, "seen before"),
    "an empty nonce": (with_nonce(""), 425, "seen before"),
    "a nonce of 4,000 digits": (with_nonce("9" * 4000), (400, 425), ""),
    "another path": (elsewhere("POST", "/v1/next"), 403, "the signature is not this request's"),
    "another task": (elsewhere("POST", "/v1/tasks/{n.task}/reply"), 403, "the signature is not this request's"),
    "another method": (elsewhere("PUT", "/v1/tasks/{m.task}/data/0"), 403, "the signature is not this request's"),
    "another's session": (ns_session, 403, "the signature is not this request's"),
    "another's session in the header": (ns_session_in_the_header, 403, "the signature is not this request's"),
    "another body": (changed_body(False), 422, "not the one that was signed"),
    "another body with its digest": (changed_body(True), 403, "the signature is not this request's"),
    "a digest of another kind": (other_digest, 422, "not the one that was signed"),
    "a range that was not signed": (a_range_added, 403, "does not cover range"),
    "a part that was changed": (a_part_changed, 422, "not the one that was signed"),
    "a part that broke off": (a_part_broken_off, "go", "damaged on its way"),
    "a commit without a digest": (a_commit_without_a_digest, "go", "damaged on its way"),
}


def check(case, answer, expected, words):
    allowed = expected if isinstance(expected, tuple) else (expected,)
    assert (answer.verdict or answer.status) in allowed, f"{case}: {str(answer)[:500]}"
    assert words in answer.why, f"{case}: {answer.why[:500]}"


def test_nobody_gets_in_without_having_joined(federation, doors, reference):
    server = federation.server(rounds=1, require_identity=True)
    server.says("Waiting for clients")
    federation.client("a", join_token=doors.token())
    server.says("client a joined")
    wrong = []
    for case, (act, expected, words) in REGISTRATIONS.items():
        try:
            answer = act(doors)
            check(case, answer, expected, words)
            assert f"with {answer.status}: {answer.why[:60]}" in server.text
        except Exception as error:  # all of them are told together
            wrong.append(f"{case}: {type(error).__name__} {error}".splitlines()[0])
        for joiner in doors.known:
            joiner.leave() if joiner.signing else joiner.close()
        doors.known.clear()
        (federation.folder / "x-by-hand.pem").unlink(missing_ok=True)
    assert not wrong, "\n".join(wrong)
    assert "client a left" not in server.text
    assert "client x joined" not in server.text or server.text.count("client x joined") == 1  # "a registration twice"
    assert server.alive


def test_within_a_session_nothing_counts_twice_and_nothing_is_changed(federation, doors, reference):
    number = len(WITHIN)
    server = federation.server(
        rounds=1, clients=number + 3, central=False, require_identity=True, keywords={"fraction_evaluate": 0.0}
    )
    server.says("Waiting for clients")
    federation.client("a", join_token=doors.token(), hold=["fit.1"])
    federation.client("b", join_token=doors.token(), hold=["fit.1"])
    harmful = [doors.member(f"m{index}") for index in range(number)]
    other = doors.member("n")
    server.says(f"({number + 3} available)")
    for member in [*harmful, other]:
        member.take_task()
    federation.reached("a", "fit.1")
    federation.reached("b", "fit.1")
    wrong = []
    for member, (case, (act, expected, words)) in zip(harmful, WITHIN.items(), strict=True):
        try:
            answer = act(member, other)
            check(case, answer, expected, words)
            if answer.status >= 400:
                assert f"with {answer.status}: {answer.why[:60]}" in server.text
        except Exception as error:  # all of them are told together
            wrong.append(f"{case}: {type(error).__name__} {error}".splitlines()[0])
    assert not wrong, "\n".join(wrong)
    for member in [*harmful, other]:
        member.give_up()
    for name in "ab":
        federation.open(name, "fit.1")
    server.says("Run over")
    for member in [*harmful, other]:
        member.leave()
    federation.all_end()
    assert federation.model() == reference(rounds=1)
    assert "Traceback" not in server.text
    assert "umbel-join-" not in server.text + federation.words(), "a secret is in a log"


def test_the_key_stays_and_the_token_is_needed_once(federation, doors, reference):
    server = federation.server(rounds=1, require_identity=True)
    server.says("Waiting for clients")
    first = federation.client("a", join_token=doors.token(client="a"), hold=["fit.1"])
    server.says("client a has joined with the key")
    second = federation.client("a")
    assert second.ends() == 1
    assert "another process has the key" in second.text
    assert "give each client a client_id=, or an identity=, of its own" in second.text
    first.kill()
    federation.client("a")  # without a token: the key has joined
    federation.client("b", join_token=doors.token())
    assert server.ends() == 0
    federation.programs.remove(first)
    federation.programs.remove(second)
    federation.all_end()
    assert federation.model() == reference(rounds=1)


def test_the_newer_process_with_a_key_fences_the_older(federation, doors):
    server = federation.server(require_identity=True)
    server.says("Waiting for clients")
    older = doors.member("m")
    old_session = older.session
    older.register()
    new_session, older.session = older.session, old_session
    assert older.request("POST", "/v1/next", {"have": []}).status == 409
    older.session = new_session
    assert older.request("POST", "/v1/tasks/x/commit", {"crc32": 0}).verdict == "stale"


def test_a_revoked_client_is_let_go_and_told_why(federation, doors):
    server = federation.server(require_identity=True)
    server.says("Waiting for clients")
    client = federation.client("a", join_token=doors.token())
    server.says("client a joined")
    doors.members.revoke("a")
    server.says("client a left: its key has been revoked", 10)
    assert client.ends(30) == 1
    last = client.text.strip().splitlines()[-1]
    assert "has been revoked; remove the key's file, and join with a new token (`umbel server token`)" in last


def test_a_network_that_changes_bytes_changes_no_model(federation, doors, reference):
    """A proxy on the way that alters an update, and knows how to fit the crc32: it is sent again, and counts unaltered."""
    server = federation.server(rounds=1, size=800_000, require_identity=True)
    server.says("Waiting for clients")
    relay = ChaosProxy(federation.port)
    altered = []

    def alter(data):
        if not altered and len(data) > 30_000 and b"PUT " not in data:
            altered.append(len(data))
            return data[:16_000] + np.float32(0.125).tobytes() * 16 + data[16_064:]
        return data

    relay.change = alter
    try:
        federation.client("a", join_token=doors.token(), size=800_000, address=relay.address)
        federation.client("b", join_token=doors.token(), size=800_000)
        assert server.ends() == 0
    finally:
        relay.close()
    federation.all_end()
    assert altered
    assert "with 422: the body is not the one that was signed" in server.text
    assert federation.model() == reference(rounds=1, size=800_000)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_reads_what_to_do(federation, doors):
    """A stock HTTP client, with a wrong token and with a request that it has recorded."""
    server = federation.server(require_identity=True)
    server.says("Waiting for clients")
    url = f"http://127.0.0.1:{federation.port}"

    def curl(method, path, body, headers=None):
        (federation.folder / "body").write_bytes(body)
        options = [part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")]
        command = ["curl", "-sS", "-X", method, "--data-binary", f"@{federation.folder / 'body'}", *options, url + path]
        done = subprocess.run(command, capture_output=True, timeout=20, check=True)
        return done.stdout.decode(errors="replace")

    assert curl("POST", "/v1/register", msgspec.msgpack.encode({"version": 1, "client_id": "c"})) == (
        "this server takes only clients that have joined: start the client with start_client(join_token=...), where `umbel "
        "server token` on the server's machine prints a token\n"
    )
    liar = doors.joiner("liar", new_token()[0])
    body = liar.message()
    said = curl("POST", "/v1/register", body, liar.identity.join("POST", "/v1/register", body, liar.challenge()))
    assert said == (
        "the join token is none of this server's; `umbel server token` on the server's machine prints a new one\n"
    )
    member = doors.member("m")
    body, path = msgspec.msgpack.encode({"crc32": 0}), "/v1/tasks/t/commit"
    headers = member.headers("POST", path, body)
    assert "another run" in curl("POST", path, body, headers)
    assert curl("POST", path, body, headers) == (
        "this request has been seen before, and a signed request counts once; sign it anew, with a higher nonce\n"
    )
    assert fingerprint(member.identity.public) in server.text
