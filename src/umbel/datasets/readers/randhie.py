"""The RAND Health Insurance Experiment (1974-82): who saw a doctor, at six sites in the United States."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.datasets.cache import KnownFiles

__all__ = ["FEATURES", "randhie"]

FEATURES = (
    "logc",  # ln(coinsurance + 1), coinsurance in percent
    "idp",  # 1 for an individual deductible plan
    "lpi",  # ln(annual participation incentive payment)
    "fmde",  # of the maximum expenditure offered; 0 where idp is 1
    "physlm",  # 1 with a physical limitation
    "disea",  # number of chronic diseases
    "hlthg",  # 1 for good health, by own rating; excellent is where this and the next two are 0
    "hlthf",  # 1 for fair health
    "hlthp",  # 1 for poor health
    "linc",  # ln(family income)
    "lfam",  # ln(family size)
    "xage",  # years
    "female",  # 1 for women and girls
    "child",  # 1 below the age of 18
)


def randhie(files: KnownFiles) -> dict[str, npt.NDArray[Any]]:
    """20,190 person-years: x (14 FEATURES as they are, float64), y (1 where a doctor was seen), site (1 … 6), mdvis.

    Visits to a doctor are what Cameron and Trivedi, Microeconometrics (2005), chapter 20, model with the first nine.
    Raises DataError where the file is not in the cache.
    """
    lines = files.read("randhie.csv").decode("ascii").splitlines()
    header = lines[0].split(",")
    wanted = [header.index(name) for name in (*FEATURES, "site", "mdvis")]
    table = np.loadtxt(lines[1:], delimiter=",", usecols=wanted)
    visits = table[:, -1].astype(np.int64)
    return {
        "x": table[:, : len(FEATURES)].copy(),
        "y": (visits > 0).astype(np.int64),
        "site": table[:, -2].astype(np.int64),
        "mdvis": visits,
    }
