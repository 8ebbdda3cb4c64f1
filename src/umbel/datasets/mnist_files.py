"""Which files make up MNIST and Fashion-MNIST, and how they are recognised.

Two editions of MNIST: all 70,000 digits, and the 5,000 of them for where the whole cannot be had. Knows neither where the
files come from (`fetch`) nor how to read them (`mnist`). Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from umbel.datasets.cache import KnownFiles
from umbel.datasets.catalogue import CATALOGUE

__all__ = ["EDITIONS", "FASHION", "FULL", "SMALL", "TEST", "TRAIN", "Edition", "edition_here"]

# Images file and labels file of each split.
TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

_REMEDY = "Run scripts/fetch-data, or `python -m umbel.datasets.fetch mnist`, to fetch it again."


@dataclass(frozen=True)
class Edition:
    """One set of the four IDX files, with the number of pictures in each split."""

    train: int
    test: int
    files: KnownFiles
    pictures: str = "digits"
    classes: tuple[str, ...] = tuple("0123456789")

    def __str__(self) -> str:
        return f"{self.train + self.test:,} {self.pictures}: {self.train:,} to train, {self.test:,} to test"


FULL = Edition(
    train=60_000,
    test=10_000,
    files=KnownFiles(
        folder="mnist",
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        remedy=_REMEDY,
    ),
)

SMALL = Edition(
    train=4_000,
    test=1_000,
    files=KnownFiles(
        folder="mnist-5k",
        sha256={
            "train-images-idx3-ubyte": "0170f7a7536f625176866e031140a0174fc88ed5e0a3ac3585a8e9fb2e1cdd94",
            "train-labels-idx1-ubyte": "39f32862f8445a37ac2198a108eaa89409b65842e17099cff0decb9947ef45e5",
            "t10k-images-idx3-ubyte": "2bbb1e01d94528b2cead4bbd387bc36d234386e383f5bf035e2d60af8e4a5719",
            "t10k-labels-idx1-ubyte": "269ecbc6b9d1255bfaf6a62a1eba208034491ca4df872ab8c3531975085962c3",
        },
        remedy=_REMEDY,
    ),
)

FASHION = Edition(
    train=60_000,
    test=10_000,
    files=CATALOGUE["fashion-mnist"].files,
    pictures="pictures of clothes",
    # As the hub spells them.
    classes=(
        "T - shirt / top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
)  # fmt: skip

# Of MNIST, best first.
EDITIONS = (FULL, SMALL)


def edition_here() -> Edition | None:
    """The best edition that the cache holds, or None."""
    return next((edition for edition in EDITIONS if edition.files.present()), None)
