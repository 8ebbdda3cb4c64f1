"""After a run its model is in the History, in a file that says what it is, and where `umbel model export` writes it."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner

import umbel as fl
from umbel.cli import main
from umbel.errors import StoreError, WireError
from umbel.params import Params
from umbel.server.strategy import FedAvg

NAMES = [f"layers.{i}.weight" for i in range(12)]
LOSSES = {0: 9.0, 1: 3.0, 2: 1.0, 3: 2.0}  # the best is round 2


class Learner(fl.client.NumPyClient):
    """Each round adds its number to each layer."""

    def fit(self, parameters, config):
        return [array + 1 for array in parameters], 10, {}


def run(initial, **keywords):
    strategy = FedAvg(
        initial_parameters=initial, fraction_evaluate=0.0, keep_best="loss", evaluate_fn=lambda n, *_: (LOSSES[n], {})
    )
    given = {"num_clients": 2, "config": fl.server.ServerConfig(num_rounds=3), "progress": False, "strategy": strategy}
    return fl.simulation.start_simulation(client_fn=lambda cid: Learner(), **given | keywords)


def layers():
    """Twelve of one shape, that only their order tells apart."""
    return [np.full((2, 2), 10.0 * i, "float32") for i in range(12)]


def kept(tmp_path):
    """The folder of the only run there."""
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    return folder


@pytest.mark.parametrize("named", [True, False], ids=["names", "no names"])
@pytest.mark.parametrize("where", ["a store", "no store", "processes"])
def test_a_history_has_the_last_model_and_the_best(tmp_path, where, named):
    keywords = {"a store": {"store": tmp_path}, "no store": {}, "processes": {"backend": "processes", "workers": 1}}[where]
    history = run(dict(zip(NAMES, layers(), strict=True)) if named else layers(), **keywords)
    last, best = history.parameters, history.best
    assert [*last.names] == (NAMES if named else [f"{i:02}" for i in range(12)])
    assert [array[0, 0] for array in last] == [10 * i + 3 for i in range(12)]
    assert dict(last).keys() == set(last.names)
    assert (best.round, best.metric, best.value) == (2, "loss", 1.0)
    assert [array[0, 0] for array in best.parameters] == [10 * i + 2 for i in range(12)]
    assert (last.metadata["round"], last.metadata["loss"]) == ("3", "2.0")
    for again in (pickle.loads(pickle.dumps(history)), copy.copy(history), copy.deepcopy(history)):
        assert again == history
        assert np.array_equal(again.parameters[5], last[5])
    with pytest.raises(StoreError, match=r"this History has no model: .* read from JSON"):
        _ = type(history).from_json(history.to_json()).parameters


def test_a_history_makes_a_model_where_it_is_told_how():
    history = run(layers())
    with pytest.raises(StoreError, match=r"how a model is made of the parameters is not known here: .*load\(model, history"):
        _ = history.model
    history.keep(make_model=lambda parameters: sum(array[0, 0] for array in parameters))
    assert history.model == sum(10 * i + 3 for i in range(12))
    assert history.best.model == sum(10 * i + 2 for i in range(12))
    pickle.dumps(history)  # the function is none that a pickle could name


def read(path):
    """Names and arrays as each of safetensors' ways to read gives them, and what the file says."""
    safetensors = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    with safetensors.safe_open(path, "numpy") as file:
        by_keys = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it has no other way
        return by_keys, load_file(path), file.metadata()


@pytest.mark.parametrize("named", [True, False], ids=["names", "no names"])
def test_the_file_reads_right_in_every_order_that_readers_have(tmp_path, named):
    run(dict(zip(NAMES, layers(), strict=True)) if named else layers(), store=tmp_path)
    path = kept(tmp_path) / "model-000003.safetensors"
    expected = [10 * i + 3 for i in range(12)]
    by_keys, by_place, said = read(path)
    order = json.loads(said["order"])
    for found in (by_keys, by_place, dict(fl.load(path))):
        assert [found[name][0, 0] for name in order] == expected
        if not named:
            assert [array[0, 0] for array in found.values()] == expected
    assert [array[0, 0] for array in by_place.values()] == expected
    about = {"format": "pt", "run": kept(tmp_path).name, "round": "3", "strategy": "FedAvg", "loss": "2.0"}
    assert about.items() <= said.items()
    assert fl.load(kept(tmp_path)).metadata == said


def test_torch_takes_the_file_as_a_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).to(torch.bfloat16)
    run(net.state_dict(), store=tmp_path)
    found = load_file(kept(tmp_path) / "model-000003.safetensors")
    net.load_state_dict(found)
    assert net[1].num_batches_tracked.item() == 3
    assert net[0].weight.dtype == torch.bfloat16


def export(*arguments):
    done = CliRunner().invoke(main, ["model", "export", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_model_is_exported(tmp_path):
    store, output = tmp_path / "runs", tmp_path / "exported"
    output.mkdir()
    run(dict(zip(NAMES, layers(), strict=True)), store=store)
    name = kept(store).name
    code, said = export(name, "--store", store, "-o", output)
    assert (code, said) == (0, f"{output}/model.safetensors: round 3 of run {name}, 12 tensors, loss 2\n")
    assert [array[0, 0] for array in fl.load(output)] == [10 * i + 3 for i in range(12)]
    for option in (["--best"], ["--round", 2]):
        assert export(name, *option, "--store", store, "-o", tmp_path / "best.safetensors")[0] == 0
        best = fl.load(tmp_path / "best.safetensors")
        assert best[0][0, 0] == 2
        assert (best.metadata["round"], best.metadata["loss"]) == ("2", "1.0")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--round", 1], "has no model of round 1; it has those of rounds 2, 3. A run keeps the newest"),
        (["--round", 3, "--best"], "--best and --round are two versions; give one of them"),
        (["-o", "/nowhere/model.safetensors"], "/nowhere/model.safetensors cannot be written: No such file or directory"),
    ],
)
def test_a_model_that_cannot_be_exported_is_explained(tmp_path, arguments, text):
    run(layers(), store=tmp_path)
    code, said = export(kept(tmp_path).name, "--store", tmp_path, "-o", tmp_path / "out", *arguments)
    assert code == 1
    assert text in said


def test_a_run_in_postgresql_is_exported_from_anywhere(tmp_path, monkeypatch, postgres):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    url = postgres.database()
    monkeypatch.chdir(home)
    history = run(layers(), store=url)
    monkeypatch.chdir(elsewhere)
    code, said = export(history.parameters.metadata["run"], "--best", "--store", url, "-o", "best.safetensors")
    assert code == 0, said
    assert fl.load("best.safetensors").metadata["round"] == "2"


def test_an_unfinished_run_is_exported_from_its_journal(tmp_path):
    def dies(number, arrays, _):
        if number == 2:
            raise ZeroDivisionError
        return LOSSES[number], {}

    strategy = FedAvg(initial_parameters=layers(), fraction_evaluate=0.0, evaluate_fn=dies)
    with pytest.raises(ZeroDivisionError):
        run(layers(), store=tmp_path, strategy=strategy)
    code, said = export(kept(tmp_path).name, "--store", tmp_path, "-o", tmp_path / "model.safetensors")
    assert code == 0, said
    assert fl.load(tmp_path / "model.safetensors").metadata["loss"] == "3.0"


def test_any_safetensors_file_can_be_read(tmp_path):
    from umbel.wire import add_metadata, encode_header

    params = Params.of({"b": np.arange(3, dtype="float32"), "a": np.array([True, False])})
    header, data = encode_header(params.schema), params.buffer.tobytes()
    table = header.replace(b"[0,12]", b"[2,14]").replace(b"[12,14]", b"[0,2]")  # the data in another order than Umbel's
    assert table != header
    path = tmp_path / "other.safetensors"
    path.write_bytes(add_metadata(table, {"order": '["a","b"]', "by": "hand"}) + data[12:] + data[:12])
    found = fl.load(path)
    assert found.names == ("a", "b")
    assert found["b"].tolist() == [0, 1, 2]
    assert found.metadata["by"] == "hand"
    found["b"][0] = 7  # writable


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"PK\x03\x04" + bytes(60), "torch.load reads files of torch.save"), (b"", "is no safetensors file")],
)
def test_what_is_no_model_is_refused(tmp_path, data, text):
    (tmp_path / "model.pt").write_bytes(data)
    with pytest.raises(WireError, match=text):
        fl.load(tmp_path / "model.pt")


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    whole = Params.of({"w": np.zeros(100)}).to_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(WireError, match="tensor 'w' claims bytes 0 to 800, which are not there"):
        fl.load(tmp_path / "model.safetensors")
