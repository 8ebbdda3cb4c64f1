"""An exported model is opened by the libraries that people open models with: transformers, and peft."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import umbel as fl
from umbel.cli import main
from umbel.server.strategy import FedAvg

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]  # the libraries warn of themselves


def tiny():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    return transformers.BertForSequenceClassification(config)


class Shifts(fl.client.NumPyClient):
    """Trains nothing: each round adds 1 to all weights."""

    def fit(self, parameters, config):
        return {name: array + 1 if array.dtype.kind == "f" else array for name, array in parameters.items()}, 10, {}


def exported(state, folder):
    """The model after two rounds that begin with this state, as `umbel model export` writes it into the folder."""
    history = fl.simulation.start_simulation(
        client_fn=lambda cid: Shifts(),
        num_clients=2,
        config=fl.server.ServerConfig(num_rounds=2),
        strategy=FedAvg(initial_parameters=state, fraction_evaluate=0.0),
        store=folder / "runs",
        progress=False,
    )
    run = history.parameters.metadata["run"]
    done = CliRunner().invoke(main, ["model", "export", run, "--store", str(folder / "runs"), "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return folder / "model.safetensors"


def shifted(state):
    return {name: array.float().numpy() + 1 + 1 for name, array in state.items() if array.is_floating_point()}


def test_transformers_opens_a_folder_with_the_model(tmp_path):
    net = tiny()
    expected = shifted(net.state_dict())
    exported(net.state_dict(), tmp_path)
    net.config.save_pretrained(tmp_path)
    again, about = type(net).from_pretrained(tmp_path, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    for name, array in again.state_dict().items():
        if name in expected:
            assert np.array_equal(array.numpy(), expected[name]), name


def test_peft_opens_an_adapter(tmp_path):
    peft = pytest.importorskip("peft")
    net = peft.get_peft_model(tiny(), peft.LoraConfig(target_modules=["query", "value"], r=2, task_type="SEQ_CLS"))
    state = peft.get_peft_model_state_dict(net)
    path = exported(state, tmp_path)
    net.save_pretrained(tmp_path / "adapter")
    shutil.copy(path, tmp_path / "adapter" / "adapter_model.safetensors")
    again = peft.PeftModel.from_pretrained(tiny(), tmp_path / "adapter")
    found, expected = peft.get_peft_model_state_dict(again), shifted(state)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert np.array_equal(array.numpy(), expected[name]), name


def test_jax_maps_over_what_a_client_is_given():
    jax = pytest.importorskip("jax")
    from umbel.common import NamedArrays
    from umbel.params import as_arrays

    given = NamedArrays([np.ones((2, 3)), np.zeros(2)], ["w", "b"])
    assert [array.shape for array in jax.tree.leaves(given)] == [(2, 3), (2,)]
    mapped = jax.tree.map(lambda array: array + 1, given)
    assert [array[0].max() for array in mapped] == [2, 1]
    assert as_arrays({"w": jax.numpy.ones(2, "bfloat16")})[0].dtype.name == "bfloat16"
