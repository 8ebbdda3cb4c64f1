"""Strategies, under their classic names."""

from typing import TYPE_CHECKING

from umbel.strategies.adaptive import FedAdagrad, FedAdam, FedAvgM, FedOpt, FedYogi
from umbel.strategies.base import Strategy
from umbel.strategies.boosting import FedLgbBagging, FedLgbCyclic, FedXgbBagging, FedXgbCyclic, FedXgbNnAvg
from umbel.strategies.buffered import FedAsync, FedBuff
from umbel.strategies.choosing import PowerOfChoice
from umbel.strategies.fair import QFedAvg
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.proximal import FedProx
from umbel.strategies.robust import (
    Bucketing,
    Bulyan,
    CenteredClipping,
    FedMedian,
    FedTrimmedAvg,
    FLTrust,
    GeometricMedian,
    Krum,
    MultiKrum,
    NearestNeighbourMixing,
)
from umbel.strategies.tolerant import FaultTolerantFedAvg
from umbel.suggest import unknown_name

if not TYPE_CHECKING:  # to a type checker every name would be one

    def __getattr__(name: str) -> object:
        raise AttributeError(unknown_name(__name__, name))


__all__ = [
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "FLTrust",
    "FaultTolerantFedAvg",
    "FedAdagrad",
    "FedAdam",
    "FedAsync",
    "FedAvg",
    "FedAvgM",
    "FedBuff",
    "FedLgbBagging",
    "FedLgbCyclic",
    "FedMedian",
    "FedOpt",
    "FedProx",
    "FedTrimmedAvg",
    "FedXgbBagging",
    "FedXgbCyclic",
    "FedXgbNnAvg",
    "FedYogi",
    "GeometricMedian",
    "Krum",
    "MultiKrum",
    "NearestNeighbourMixing",
    "PowerOfChoice",
    "QFedAvg",
    "Strategy",
]
