"""The data sets with names of their own: the real thing, from this machine's cache."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from umbel.datasets import FederatedDataset, NaturalIdPartitioner, mnist
from umbel.datasets.catalogue import CATALOGUE
from umbel.datasets.idx import read_idx
from umbel.datasets.mnist_files import FASHION, TRAIN
from umbel.datasets.readers.rdata import read_frame
from umbel.errors import DataError


@pytest.fixture
def whole(fetched):
    def load(name):
        fetched(name)
        return FederatedDataset(dataset=name, partitioners={}, shuffle=False).load_split("train")

    return load


def by(column, name):
    return FederatedDataset(dataset=name, partitioners={"train": NaturalIdPartitioner(partition_by=column)})


def test_randhie_is_six_sites(whole):
    rows = whole("randhie")
    assert (len(rows), rows["x"].shape) == (20_190, (20_190, 14))
    assert np.unique(rows["site"], return_counts=True)[1].tolist() == [4462, 4036, 2436, 3090, 2595, 3571]
    assert rows["mdvis"].sum() == 57_752
    assert rows["mdvis"].max() == 77
    assert np.array_equal(rows["y"], rows["mdvis"] > 0)
    assert np.isfinite(rows["x"]).all()
    parts = by("site", "randhie").partitioners["train"]
    assert [len(parts.load_partition(site)) for site in range(6)] == [4462, 4036, 2436, 3090, 2595, 3571]


def test_randhie_is_the_table_that_statsmodels_has(whole):
    statsmodels = pytest.importorskip("statsmodels.datasets.randhie", reason="statsmodels is not installed")
    theirs, ours = statsmodels.load_pandas().data, whole("randhie")
    assert np.array_equal(theirs["mdvis"], ours["mdvis"])
    assert np.array_equal(theirs["disea"], ours["x"][:, 5])


def test_shakespeare_is_a_thousand_roles_and_the_next_character(whole):
    rows = whole("shakespeare")
    assert len(rows) > 48_000
    assert rows["x"].shape == rows["y"].shape == (len(rows), 80)
    assert np.array_equal(rows["x"][:, 1:], rows["y"][:, :-1]), "the answer is the next character"
    assert rows["x"].max() < 128
    roles, counts = np.unique(rows["role"], return_counts=True)
    assert len(roles) > 1000
    assert roles[counts.argmax()] == "hamlet: HAM"
    assert bytes(rows["x"][rows["role"] == "hamlet: HAM"][0]).startswith(b"A little more than kin, and less than kind!")
    said = rows["x"][rows["role"] == "hamlet: HAM"].tobytes().decode("ascii")
    assert "To be, or not to be,--that is the question:" in said
    assert "Enter" not in said
    plays = {role.partition(":")[0] for role in roles}
    assert len(plays) == 37
    puck = rows["x"][rows["role"] == "midsummer_nights_dream: PUCK"].tobytes().decode("ascii")
    assert "Lord, what fools these mortals be!" in puck


def test_a_role_is_one_client(whole):
    whole("shakespeare")
    parts = by("role", "shakespeare")
    assert len(set(parts.load_partition(7)["role"].tolist())) == 1


def test_vowel_is_fifteen_speakers(whole):
    rows = whole("vowel")
    assert rows["x"].shape == (990, 9)
    assert rows["x"][0].tolist() == [-3.639, -0.67, 1.779, -0.168, 1.627, -0.388, 0.529, -0.874, -0.814]
    assert np.bincount(rows["speaker"]).tolist() == [66] * 15
    assert np.bincount(rows["y"]).tolist() == [90] * 11
    assert len(by("speaker", "vowel").load_partition(14)) == 66


def test_letters_are_those_of_frey_and_slate(whole):
    rows = whole("letters")
    assert rows["x"].shape == (20_000, 16)
    assert "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[rows["y"][0]] == "T"
    assert rows["x"][0].tolist() == [2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8]
    assert sorted(np.bincount(rows["y"]).tolist())[::25] == [734, 813]


@pytest.mark.parametrize(("name", "loader"), [("digits", "load_digits"), ("breast_cancer", "load_breast_cancer")])
def test_uci_tables_are_those_of_scikit_learn(whole, name, loader):
    rows = whole(name)
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, y = getattr(sklearn, loader)(return_X_y=True)
    assert np.array_equal(rows["x"].reshape(len(rows), -1), x)
    assert np.array_equal(rows["y"], y)


def test_uci_tables_have_the_sizes_they_are_known_for(whole):
    assert np.bincount(whole("digits")["y"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(whole("breast_cancer")["y"]).tolist() == [212, 357]


def test_fashion_mnist_is_in_the_shape_of_the_hub(fetched):
    entry = fetched("fashion-mnist")
    loaded = mnist.load(FASHION)
    assert {name: len(rows) for name, rows in loaded.items()} == {"train": 60_000, "test": 10_000}
    assert loaded["train"].features["label"].names[9] == "Ankle boot"
    first = loaded["train"][0]
    assert (first["label"], first["image"].size) == (9, (28, 28))
    assert np.array_equal(np.array(first["image"]), read_idx(entry.files.read(TRAIN[0]))[0])
    digests = entry.files.sha256
    assert digests[TRAIN[0]].startswith("c59f468a2f672dc8")
    assert digests[TRAIN[0]].endswith("d888")


def test_fashion_mnist_comes_from_the_cache_where_there_is_no_hub(fetched, monkeypatch, caplog, tmp_path):
    fetched("fashion-mnist")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    for options in ({}, {"revision": "main"}):
        assert "using Fashion-MNIST from" not in caplog.text
        part = FederatedDataset(dataset="fashion_mnist", partitioners={"train": 6}, **options).load_partition(0)
        assert len(part) == 10_000
    assert "using Fashion-MNIST from" in caplog.text, "where an option is for the hub's own copy"
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"Run scripts/fetch-data fashion-mnist, or .*out of a Debian package"):
        FederatedDataset(dataset="fashion_mnist", partitioners={"train": 6}).load_partition(0)


@pytest.mark.parametrize("name", ["randhie", "shakespeare", "vowel", "letters", "digits", "breast_cancer"])
def test_what_has_not_been_fetched_says_how(name, monkeypatch, tmp_path):
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"cannot be read: .* Run scripts/fetch-data {name}, or `python -m"):
        FederatedDataset(dataset=name, partitioners={"train": 2}).load_partition(0)


def test_what_is_kept_of_a_reading_is_read_again_where_it_is_damaged(whole, cache):
    expected = whole("vowel")["x"].copy()
    (kept,) = (cache / "tables").glob("vowel-*.npz")
    content = bytearray(kept.read_bytes())
    content[2000] ^= 1
    kept.unlink()  # what is mapped stays as it was
    kept.write_bytes(content)
    assert np.array_equal(whole("vowel")["x"], expected)
    kept.unlink()
    kept.write_bytes(b"")
    assert np.array_equal(whole("vowel")["x"], expected)


def test_every_entry_says_what_one_may_do_with_it():
    for entry in CATALOGUE.values():
        assert entry.licence
        assert entry.about
        assert all(len(digest) == 64 for digest in entry.files.sha256.values())


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x09\1\0\0\0\1x", b"\0\0\x08\1\0\0\0\2x", b"\0\0\x08\x03\0\0\0\1"]
)
def test_what_is_no_idx_file_is_refused(content):
    with pytest.raises(DataError, match=r"IDX file .*fetch it again"):
        read_idx(content)


@pytest.mark.parametrize("content", [b"", b"RDX3\nX\n", b"RDX2\nX\n" + b"\0" * 12, b"RDX2\nX\n" + b"\0\0\4\2" * 9])
def test_what_r_did_not_save_is_refused(content):
    with pytest.raises(DataError, match=r"[Ff]etch it again"):
        read_frame(content)
