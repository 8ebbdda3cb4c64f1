"""Secrets: streams by published vectors, the same bytes for the same address anywhere, and a file that keeps the key."""

from __future__ import annotations

import copy
import errno
import hashlib
import itertools
import logging
import os
import pickle
import stat
import sys

import numpy as np
import pytest

import umbel as fl
from leaks import rows_of, spellings
from umbel.common import Context, ndarrays_to_parameters
from umbel.dialogue.results import current_round
from umbel.errors import SecurityError, StoreError
from umbel.runtime import fingerprints
from umbel.runtime.fingerprints import SECRET, fingerprint
from umbel.runtime.run_registry import open_run
from umbel.runtime.security.kept_secret import FILE, load_secret
from umbel.runtime.security.private_files import make_private
from umbel.secret import AES, CIPHERS, SHAKE, Secret, aes_ctr, shake_ctr, usual_cipher
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation
from umbel.strategies.classic.adapter import host_of
from umbel.testing import check_transform, run_locally
from umbel.transforms import Transform, register
from umbel.update import Update

KEY = bytes(range(32))
NIST = {  # SP 800-38A, F.5.5, CTR-AES256.Encrypt: key, first counter block, output blocks
    "key": "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    "counter": "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
    "output": "0bdf7df1591716335e9a8b15c860c5025a6e699d536119065433863c8f657b94"
    "1bc12c9c01610d5d0d8bd6a3378eca622956e1c8693536b1bee99c73a31576b6",
    "plain": "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    "cipher": "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
}
RECORDED = {  # the first 16 bytes of `("noise", 3, "model")` under KEY, and those from byte 2³⁵ + 5 on
    AES: ("e2cc21fe606b4c0de25f07e8e2158fd2", "8e608c3bbdd128fc6d1bce693b1a3683"),
    SHAKE: ("0d12d8e8a40d4b90edfaaaba91933d00", "579ec8ff622fc791578ffab7cf7a9f3d"),
}


# ---- streams


def test_aes_in_counter_mode_is_that_of_nist():
    given = {name: bytes.fromhex(text) for name, text in NIST.items()}
    made = aes_ctr(given["key"], int.from_bytes(given["counter"], "big"), 64)
    assert made == given["output"]
    assert bytes(a ^ b for a, b in zip(made, given["plain"], strict=True)) == given["cipher"]


def test_shake_is_that_of_fips_202_over_key_and_counter():
    nothing = "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f"
    assert hashlib.shake_256(b"").hexdigest(32) == nothing
    block = hashlib.shake_256(KEY + bytes([7, 0, 0, 0, 0, 0, 0, 0])).digest(8704)
    assert shake_ctr(KEY, 7, 8704) == block
    assert shake_ctr(KEY, 6, 2 * 8704)[8704:] == block


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_stream_is_what_it_was_when_the_first_run_used_it(cipher):
    stream = Secret(KEY, cipher).stream("noise", 3, "model")
    assert (stream.read(0, 16).hex(), stream.read(2**35 + 5, 16).hex()) == RECORDED[cipher]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_any_part_of_a_stream_can_be_made_by_itself(cipher):
    stream = Secret(KEY, cipher).stream("noise", 3, "model")
    whole = stream.read(0, 40_000)
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.integers(0, 40_000, (200, 2)), axis=1).tolist()
    for begin, end in [(0, 0), (15, 17), (8703, 8705), (16, 32), *cuts]:
        assert stream.read(begin, end - begin) == whole[begin:end]
    words = stream.words(0, 5000)
    assert words.dtype == np.uint64
    assert words[3] == int.from_bytes(whole[24:32], "little")
    pieces = [stream.words(at, size) for at, size in ((0, 1), (1, 998), (999, 4001))]
    assert np.concatenate(pieces).tolist() == words.tolist()
    for start, size in ((-1, 1), (0, -1), (2**64, 1)):
        with pytest.raises(ValueError, match="a stream: it has those from 0"):
            stream.read(start, size)
    assert len(stream.read(2**64 - 3, 3)) == 3


def test_streams_of_different_addresses_have_nothing_in_common():
    secrets = [Secret(key, cipher) for key in (KEY, bytes(32)) for cipher in CIPHERS]
    secrets += [secret.derive("task", name) for secret in secrets for name in "ab"]
    addresses = [("noise", 3, "model"), ("noise", 4, "model"), ("noise", 3, "scales"), ("masks", 3, "model")]
    made = [secret.stream(*address).read(0, 4096) for secret in secrets for address in addresses]
    assert len(set(made)) == 12 * 4
    bits = np.unpackbits(np.frombuffer(b"".join(made), np.uint8).reshape(48, -1), axis=1)
    agree = [np.mean(bits[i] == bits[j]) for i, j in itertools.combinations(range(48), 2)]
    assert max(abs(share - 0.5) for share in agree) < 7 * 0.5 / 4096**0.5
    assert abs(bits.mean() - 0.5) < 7 * 0.5 / bits.size**0.5


def test_a_secret_is_new_every_time_and_of_a_seed_the_same():
    first, second = (Secret.new().stream("noise", 1, "model").read(0, 32) for _ in range(2))
    assert first != second
    simulated = [Secret.of_seed(7, "client", "a", number) for number in (1, 1, 2)]
    same, again, other = (secret.stream("noise", 1, "model").read(0, 32) for secret in simulated)
    assert same == again != other
    assert simulated[0].simulated
    assert simulated[0].derive("task").simulated
    assert not Secret.new().simulated


def test_without_cryptography_shake_does_it_and_what_aes_has_made_is_not_made_otherwise(monkeypatch):
    assert usual_cipher() == AES
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    assert Secret.new().cipher == SHAKE
    assert len(Secret.new().stream("noise", 1, "model").read(5, 100)) == 100
    with pytest.raises(SecurityError, match=r"by AES-256-CTR, which needs .*: pip install 'umbel\[security\]'"):
        Secret(KEY, AES).stream("noise", 1, "model").read(0, 1)


def test_nothing_of_a_secret_is_shown_copied_or_pickled():
    secret = Secret(KEY, SHAKE)
    for thing in (secret, secret.stream("noise", 1, "model")):
        assert KEY.hex()[:8] not in repr(thing)
        assert "\\x01" not in f"{thing}{thing!r}{[thing]}"
        assert not hasattr(thing, "__dict__")
        for keep in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                keep(thing)
    context = Context("a", make_secret=lambda: secret)
    assert context.secret is secret
    assert "secret" not in repr(context)
    assert pickle.loads(pickle.dumps(context)) == context
    assert pickle.loads(pickle.dumps(context)).make_secret is None
    for key, cipher in ((b"short", SHAKE), (KEY, "ROT13")):
        with pytest.raises(SecurityError, match=r"a secret is 32 bytes and AES-256-CTR or SHAKE-256"):
            Secret(key, cipher)


# ---- where it is kept


def test_a_secret_is_kept_in_a_file_that_others_cannot_read(tmp_path):
    path = tmp_path / "secret"
    made = load_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(path).export() == made.export()
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
    text = path.read_text()
    assert (made.cipher, made.export().hex()) == (text.split("\n")[1], text.split("\n")[2])
    path.write_text(text.replace(AES, SHAKE))
    assert load_secret(path).cipher == SHAKE

    for damaged in ("", text[:-10], text.replace("1", "2", 1), text.replace("A", "R"), text + "more", "\0" * 100):
        path.write_text(damaged)
        with pytest.raises(SecurityError, match="is not a secret as Umbel writes it") as raised:
            load_secret(path)
        assert made.export().hex()[:8] not in str(raised.value)
    with pytest.raises(SecurityError, match="cannot be made: Not a directory"):
        load_secret(path / "below")


def test_a_secret_that_others_could_read_is_closed_and_where_that_cannot_be_it_is_said(tmp_path, monkeypatch, caplog):
    path = tmp_path / "secret"
    made = load_secret(path).export()
    path.chmod(0o644)
    assert load_secret(path).export() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert caplog.messages == [f"The secret {path} is not to be read by others, and it could be until now"]
    caplog.clear()
    monkeypatch.setattr(type(path), "chmod", lambda *_: None)  # as on a memory stick
    os.chmod(path, 0o777)
    assert load_secret(path).export() == made
    assert "it still can be: this file system keeps no modes, or the file is not yours" in caplog.text
    assert made.hex()[:8] not in caplog.text


def test_a_file_system_without_links_keeps_secrets_too(tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "secret"
    made = load_secret(path).export()
    assert load_secret(path).export() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        make_private(path, b"another")
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


@pytest.fixture
def script(tmp_path, monkeypatch):
    """This process is the script `server.py`, at its first start."""
    path = tmp_path / "server.py"
    path.write_text("print('hello')")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(path), raising=False)
    return lambda: monkeypatch.setattr(fingerprints, "_starts", itertools.count(1))


def test_a_run_that_goes_on_has_the_secret_that_it_began_with_or_does_not_go_on(tmp_path, script):
    def begin(**more):
        script()
        strategy = FedAvg()
        mine = fingerprint(host_of(strategy).declared, strategy.pace, seed=0, port=1, num_rounds=3)
        return open_run(tmp_path / "runs", mine | more, fresh=False)

    with_one = {SECRET: AES}
    opened = begin(**with_one)
    opened.close()
    path = opened.folder / FILE
    first = path.read_text()
    again = begin(**{SECRET: SHAKE})  # the package has gone, or come: the secret stays as it is
    assert again.run == opened.run
    assert path.read_text() == first
    again.close()
    path.unlink()
    with pytest.raises(StoreError, match=rf"the secret of run {opened.run} is gone, .*secret, and without it .*fresh=True"):
        begin(**with_one)


def test_a_run_of_an_umbel_without_secrets_goes_on(tmp_path, script):
    script()
    strategy = FedAvg()
    mine = fingerprint(host_of(strategy).declared, strategy.pace, seed=0, port=1, num_rounds=3)
    opened = open_run(tmp_path, mine, fresh=False)
    opened.close()
    script()
    again = open_run(tmp_path, mine | {SECRET: AES}, fresh=False)
    assert again.run == opened.run
    again.close()


# ---- in a run


class Draws(fl.client.NumPyClient):
    """Reports the beginning of its stream, where the config says so."""

    def __init__(self, context):
        self.context = context

    def fit(self, parameters, config):
        made = self.context.secret.stream("noise", config["round"], "model").read(0, 8) if config["draws"] else b""
        return parameters, 1, {"drawn": made}


class Noisy(FedAvg):
    """Notes the beginning of the stream for the noise on each sum, where it is to draw."""

    def __init__(self, *, server=True, clients=True, without=()):
        super().__init__(
            fraction_evaluate=0.0,
            initial_parameters=ndarrays_to_parameters([np.zeros(2)]),
            on_fit_config_fn=lambda number: {"round": number, "draws": clients},
            fit_metrics_aggregation_fn=lambda metrics: {"drawn": [each["drawn"].hex() for _, each in metrics]},
        )
        self.server, self.without = server, without
        self.seen = []

    def aggregate_fit(self, server_round, results, failures):
        results = [result for result in results if result[0].cid not in self.without]
        if self.server:
            secret = current_round().secret()
            self.seen.append(secret.stream("noise", server_round, "model").read(0, 8))
        return super().aggregate_fit(server_round, results, failures)


def simulate(caplog, seed=7, **options):
    caplog.clear()
    strategy = Noisy(**{name: options.pop(name) for name in ("server", "clients") if name in options})
    config = fl.server.ServerConfig(num_rounds=2)
    with caplog.at_level(logging.WARNING, "umbel"):
        history = start_simulation(
            client_fn=Draws, num_clients=3, config=config, strategy=strategy, seed=seed, progress=False, **options
        )
    warned = any(message.startswith("Simulated noise, no protection") for message in caplog.messages)
    return strategy.seen, [value for _, drawn in history.metrics_distributed_fit["drawn"] for value in drawn], warned


def test_simulated_noise_follows_from_the_seed_and_the_summary_says_so(caplog):
    first, second = (simulate(caplog, backend="inline") for _ in range(2))
    assert first == second
    server, clients, warned = first
    assert warned
    assert len(set(server)) == 2
    assert len(set(clients)) == 6
    other = simulate(caplog, seed=8, backend="inline")
    assert not {*other[0], *other[1]} & {*server, *clients}
    assert simulate(caplog, backend="inline", clients=False)[2]
    assert simulate(caplog, backend="inline", server=False)[2]
    assert not simulate(caplog, backend="inline", server=False, clients=False)[2]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_simulation_that_is_kept_keeps_no_secret(database, tmp_path, monkeypatch, caplog, request):
    monkeypatch.chdir(tmp_path)
    where = request.getfixturevalue("postgres").database() if database == "postgres" else "kept"
    told = []
    with caplog.at_level(logging.DEBUG, "umbel"):
        config = fl.server.ServerConfig(num_rounds=2)
        options = {"seed": 7, "store": where, "backend": "inline", "progress": False, "observers": [told.append]}
        start_simulation(client_fn=Draws, num_clients=3, config=config, strategy=Noisy(), **options)
    left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    left += [rows_of(where.replace("postgresql://", "postgresql+psycopg://")), caplog.text.encode(), repr(told).encode()]
    assert len(left) > 3
    kept = [Secret.of_seed(7, "server"), *(Secret.of_seed(7, "client", name, 1, "fit") for name in "012")]
    drawn = [secret.stream("noise", 1, "model").read(0, 8).hex().encode() for secret in kept[1:]]
    assert all(any(each in data for data in left) for each in drawn)  # else the test would look in the wrong place
    for secret in kept:
        assert not [each for each in spellings(secret.export()) for data in left if each in data]


@pytest.mark.system
def test_clients_in_processes_draw_what_they_draw_inline_and_it_is_said(caplog):
    there = simulate(caplog, backend="processes", workers=2, server=False)
    assert there == simulate(caplog, backend="inline", server=False)
    assert there[2]


def test_other_answers_are_another_sum_and_never_get_the_same_noise():
    class Fails(Draws):
        def fit(self, parameters, config):
            raise ValueError("no data")

    def seen(makes):
        strategy = Noisy()
        run_locally(strategy, {name: made(Context(name)) for name, made in zip("abc", makes, strict=True)})
        return strategy.seen[0]

    everyone = seen([Draws, Draws, Draws])
    assert seen([Draws, Draws, Draws]) == everyone
    assert len({everyone, seen([Draws, Draws, Fails]), seen([Draws, Fails, Draws])}) == 3


@register
def private_halves():
    """A transform of one's own that adds noise in both halves, by coordinate."""

    def centred(words):
        return words.astype("float64") * 2.0**-64 - 0.5

    def encode(update, base, site):
        stream = site.secret().stream("noise", site.round, "model")
        noisy, at = [], 0
        for array in update.parts["difference"]:
            if array.dtype.kind == "f":
                array = (array + centred(stream.words(at, array.size)).reshape(array.shape)).astype(array.dtype)
                at += array.size
            noisy.append(array)
        return Update({"difference": noisy}, update.num_examples, update.metrics)

    def finish(block, start, totals, facts):
        return block + centred(totals.secret().stream("noise", totals.round, "model").words(start, block.size))

    return Transform("private_halves", encode=encode, finish=finish)


class Stays(fl.client.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def noisy_models(backend, **options):
    seen = []
    strategy = FedAvg(
        fraction_evaluate=0.0,
        initial_parameters=ndarrays_to_parameters([np.zeros(100_000)]),
        evaluate_fn=lambda number, arrays, config: seen.append(arrays[0]),
        transform=private_halves(),
    )
    config = fl.server.ServerConfig(num_rounds=2)
    start_simulation(
        client_fn=lambda context: Stays(), num_clients=3, config=config, strategy=strategy, backend=backend, **options
    )
    return seen[1:]


def test_a_transform_draws_noise_by_coordinate_in_both_of_its_halves(caplog):
    check_transform(private_halves())  # the same however blocks are cut, and again
    with caplog.at_level(logging.WARNING, "umbel"):
        first, second = (noisy_models("inline") for _ in range(2))
    assert [model.tobytes() for model in first] == [model.tobytes() for model in second]
    assert any(message.startswith("Simulated noise, no protection") for message in caplog.messages)
    steps = [first[0], first[1] - first[0]]
    for step in steps:
        assert abs(step.mean()) < 7 * step.std() / 100_000**0.5
        assert abs(step.var() - (1 / 12) * (1 + 1 / 3)) < 0.01  # the server's, and the mean of three clients'
    assert abs(np.corrcoef(*steps)[0, 1]) < 7 / 100_000**0.5
    assert abs(np.corrcoef(steps[0][:50_000], steps[0][50_000:])[0, 1]) < 7 / 50_000**0.5


@pytest.mark.system
def test_noise_is_the_same_in_processes():
    there = noisy_models("processes", workers=2)
    assert [model.tobytes() for model in there] == [model.tobytes() for model in noisy_models("inline")]


def test_a_client_by_itself_has_a_secret_for_as_long_as_it_lives():
    contexts = Context("a"), Context("a")
    made = [context.secret.stream("noise", 1, "model").read(0, 16) for context in (contexts[0], *contexts)]
    assert made[0] == made[1] != made[2]


def test_an_address_is_whole_numbers_and_texts_and_those_of_numpy_do_not_wrap_around():
    secret = Secret(bytes(32), SHAKE)
    for odd in (1.5, 1.0, None):
        with pytest.raises(TypeError, match="a place in a run is whole numbers and texts; got"):
            secret.stream("noise", odd, "model")
    one, other = secret.stream("noise", 1, "model"), secret.stream("noise", np.int64(1), "model")
    assert one.read(5, 8) == other.read(np.int64(5), np.int32(8))
    assert (one.words(2**29, 4) == one.words(np.int32(2**29), np.int32(4))).all()
    for key in ("k" * 32, None):
        with pytest.raises(SecurityError, match=r"a secret is 32 bytes and .*; got a "):
            Secret(key, SHAKE)
