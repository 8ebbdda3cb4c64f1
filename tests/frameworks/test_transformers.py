"""Transformers and peft: a tiny BERT with random weights, offline; what travels, and what peft opens."""

import pytest

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
umbel_transformers = pytest.importorskip("umbel.frameworks.transformers")

from umbel.context import Context  # noqa: E402
from umbel.frameworks import adapter_for  # noqa: E402

# What libraries say about each other is not ours.
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TEXTS = [{"input_ids": [1, 2, number % 8], "labels": number % 2} for number in range(8)]


def bert():
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=8, **small))


def member(client, name="0"):
    return client(Context(name, {"partition-id": int(name)}, seed=0, round=1))


def test_a_trainer_trains_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    client = member(umbel_transformers.client(bert, TEXTS))
    arrays, count, metrics = client.fit(client.get_parameters({}), {"num_train_epochs": 2})
    assert (count, [*metrics]) == (8, ["loss"])
    loss, count, metrics = client.evaluate(arrays, {})
    assert (count, metrics) == (8, {})
    assert loss > 0
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""


def half(said):
    return {"accuracy": 0.5}


def test_arguments_may_be_training_arguments_and_metrics_come_over(tmp_path):
    args = transformers.TrainingArguments(output_dir=str(tmp_path / "none"), num_train_epochs=1, learning_rate=0.01)
    client = member(umbel_transformers.client(bert, TEXTS, args=args, compute_metrics=half))
    assert client.evaluate(client.get_parameters({}), {})[2] == {"accuracy": 0.5}
    assert not (tmp_path / "none").exists()


def test_a_trainer_without_data_is_told_what_to_give():
    client = member(umbel_transformers.client(bert))
    with pytest.raises(TypeError, match=r"has no train_dataset; give data=, a data set or \{'train': a data set"):
        client.fit(client.get_parameters({}), {})


def test_only_the_adapter_travels_and_peft_opens_it(tmp_path):
    peft = pytest.importorskip("peft")
    base = bert()

    def adapted():
        return peft.get_peft_model(bert(), peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))

    client = member(umbel_transformers.client(adapted, TEXTS))
    first = client.get_parameters({})
    trained, *_ = client.fit(first, {})
    assert [*trained] == [*first]
    assert all("lora" in name or "classifier" in name for name in trained)
    assert any((trained[name] != first[name]).any() for name in trained)
    mine = adapted()
    folder = umbel_transformers.save_adapter(mine, trained, tmp_path)
    opened = umbel_transformers.parameters_of(peft.PeftModel.from_pretrained(base, str(folder)))
    assert [*opened] == [*trained]
    assert all((opened[name] == trained[name]).all() for name in trained)
    assert adapter_for(mine).name == adapter_for(base).name == "transformers"
    with pytest.raises(TypeError, match="BertForSequenceClassification has no adapter"):
        umbel_transformers.save_adapter(base, {}, tmp_path)
