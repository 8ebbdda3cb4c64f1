"""Data for these tests: a small one made up here, and the real MNIST that `scripts/fetch-data` has put into the cache."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

datasets = pytest.importorskip("datasets", reason="the extra 'datasets' is not installed")


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache with this machine's data in it, and nothing that an earlier run of the tests worked out."""
    from umbel.datasets.cache import data_dir

    folder = tmp_path_factory.mktemp("cache")
    for real in data_dir().glob("*"):
        if real.name not in ("indices", "tables"):
            (folder / real.name).symlink_to(real.resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UMBEL_DATA", str(folder))
        yield folder


@pytest.fixture(scope="session")
def digits():
    """60 images of 4×5 with their labels: a plain `datasets.Dataset`."""
    rng = np.random.RandomState(0)
    return datasets.Dataset.from_dict(
        {
            "image": [rng.randint(0, 256, (4, 5), dtype=np.uint8) for _ in range(60)],
            "label": [number % 3 for number in range(60)],
            "row": list(range(60)),
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["a", "b", "c"]),
                "row": datasets.Value("int64"),
            }
        ),
    )


@pytest.fixture(scope="session")
def mnist_files():
    """The full edition, from this machine's cache."""
    from umbel.datasets.mnist_files import FULL

    if not FULL.files.present():
        pytest.skip(f"needs the real MNIST in {FULL.files.path}: run scripts/fetch-data")
    return FULL.files


@pytest.fixture(scope="session")
def fetched(cache):
    """Skips a test, loudly, where this machine has not fetched a data set of the catalogue; else gives its entry."""
    from umbel.datasets.catalogue import CATALOGUE

    def entry(name):
        if not CATALOGUE[name].files.present():
            pytest.skip(f"needs the real {name} in {CATALOGUE[name].files.path}: run scripts/fetch-data {name}")
        return CATALOGUE[name]

    return entry


@pytest.fixture
def offline(tmp_path):
    """An environment for a process that has no hub, no copies from it, and this machine's Umbel cache."""
    from umbel.datasets.cache import data_dir

    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "huggingface"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "UMBEL_DATA": str(data_dir()),
    }
