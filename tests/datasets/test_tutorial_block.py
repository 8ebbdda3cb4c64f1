"""The data block of the MLX tutorial, as it is written there, on real MNIST."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

BLOCK = """
import mlx.core
import numpy as np
from types import SimpleNamespace
from umbel.datasets import FederatedDataset

np.random.seed(0)
args = SimpleNamespace(node_id=1)

fds = FederatedDataset(dataset="mnist", partitioners={"train": 3})
partition = fds.load_partition(node_id = args.node_id)
partition_splits = partition.train_test_split(test_size=0.2)

partition_splits['train'].set_format("numpy")
partition_splits['test'].set_format("numpy")

train_partition = partition_splits["train"].map(
    lambda img: {
        "img": img.reshape(-1, 28 * 28).squeeze().astype(np.float32) / 255.0
    },
    input_columns="image",
)
test_partition = partition_splits["test"].map(
    lambda img: {
        "img": img.reshape(-1, 28 * 28).squeeze().astype(np.float32) / 255.0
    },
    input_columns="image",
)

data = (
    train_partition["img"],
    train_partition["label"].astype(np.uint32),
    test_partition["img"],
    test_partition["label"].astype(np.uint32),
)

train_images, train_labels, test_images, test_labels = map(mlx.core.array, data)
"""

# The same rows through `datasets` alone, one by one.
CHECK = """
import sys
from datasets import Dataset

np.savez(sys.argv[1], **{name: np.array(globals()[name])
         for name in ("train_images", "train_labels", "test_images", "test_labels")})

def plain(ours):
    rows = ours.remove_columns("img")
    return Dataset(rows.data, info=rows.info, split=rows.split).with_format("numpy").map(
        lambda img: {"img": img.reshape(-1, 28 * 28).squeeze().astype(np.float32) / 255.0}, input_columns="image")

for ours in train_partition, test_partition:
    theirs = plain(ours)
    assert theirs.features == ours.features
    assert theirs.data.table.combine_chunks().equals(ours.data.table.combine_chunks())
    assert theirs[:]["img"].tobytes() == ours["img"].tobytes()
"""


@pytest.mark.slow
@pytest.mark.tutorial
def test_block_runs_as_written_to_the_bits_of_plain_rows(mnist_files, offline, tmp_path):
    pytest.importorskip("mlx.core", reason="mlx is not installed")
    out = tmp_path / "block.npz"
    done = subprocess.run([sys.executable, "-c", BLOCK + CHECK, out], env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(out) as block:
        assert block["train_images"].shape == (16_000, 784)
        assert block["test_images"].shape == (4_000, 784)
        assert block["train_images"].dtype == np.float32
        assert block["train_labels"].dtype == np.uint32
        assert 0.13 < block["train_images"].mean() < 0.14
        assert np.bincount(block["train_labels"]).min() > 1_300, "every digit, about alike"


@pytest.mark.slow
@pytest.mark.tutorial
def test_three_clients_share_out_all_of_mnist(mnist_files, offline):
    script = """
import sys
from umbel.datasets import FederatedDataset
part = FederatedDataset(dataset="mnist", partitioners={"train": 3}).load_partition(node_id=int(sys.argv[1]))
print(*part._indices.column(0).to_pylist())
"""
    clients = [
        subprocess.Popen([sys.executable, "-c", script, str(number)], env=offline, stdout=subprocess.PIPE, stderr=-1)
        for number in range(3)
    ]
    parts = [list(map(int, client.communicate()[0].split())) for client in clients]
    assert [len(part) for part in parts] == [20_000] * 3
    assert sorted(chain(*parts)) == list(range(60_000))
