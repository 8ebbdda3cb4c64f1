"""Lightning's modules, fitted by a Trainer that says nothing and leaves nothing."""

import pytest

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("lightning.pytorch")
umbel_lightning = pytest.importorskip("umbel.frameworks.lightning")

from torch.nn.functional import cross_entropy  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from umbel.context import Context  # noqa: E402
from umbel.frameworks import adapter_for  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Silent(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def training_step(self, batch, index):
        return cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Net(Silent):
    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch, index):
        self.log_dict({"test_loss": super().training_step(batch, index), "f1": 0.25})


class Data(lightning.LightningDataModule):
    def train_dataloader(self):
        return loader(12)

    def test_dataloader(self):
        return loader(5)


def loader(count):
    return DataLoader(TensorDataset(torch.ones(count, 4), torch.arange(count) % 3), batch_size=4)


def member(client):
    return client(Context("0", {"partition-id": 0}, seed=0, round=1))


@pytest.mark.parametrize("data", [Data(), {"train": loader(12), "test": loader(5)}])
def test_a_trainer_fits_and_tests_and_is_quiet(data, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    client = member(umbel_lightning.client(Net, data))
    capfd.readouterr()
    arrays, count, metrics = client.fit(client.get_parameters({}), {})
    assert (count, [*metrics]) == (12, ["train_loss"])
    loss, count, metrics = client.evaluate(arrays, {})
    assert (count, metrics) == (5, {"f1": 0.25})
    assert loss > 0
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_config_says_how_long():
    seen = []

    class Counted(Net):
        def on_train_epoch_start(self):
            seen.append(self.current_epoch)

    client = member(umbel_lightning.client(Counted, loader(4), max_epochs=2))
    first = client.get_parameters({})
    client.fit(first, {})
    client.fit(first, {"max_epochs": 3})
    assert seen == [0, 1, 0, 1, 2]


def test_a_module_without_data_is_told_what_to_give_and_one_without_a_test_is_not_tested():
    client = member(umbel_lightning.client(Silent))
    with pytest.raises(TypeError, match="Silent has no data to train on; give data=, a LightningDataModule or a loader"):
        client.fit(client.get_parameters({}), {})
    assert client.evaluate(client.get_parameters({}), {})[1:] == (0, {})
    with pytest.raises(TypeError, match=r"Net has no data to be tested on; give data=.*or write its test_dataloader"):
        member(umbel_lightning.client(Net)).evaluate(client.get_parameters({}), {})
    assert adapter_for(Silent).name == "lightning"
