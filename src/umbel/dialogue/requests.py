"""What a server asks of a client and what the client answers, as the classic API writes it. Knows no rounds and no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from umbel.dialogue.parameters import Parameters
from umbel.dialogue.scalars import Config, Metrics, Properties

__all__ = [
    "Code",
    "EvaluateIns",
    "EvaluateRes",
    "FitIns",
    "FitRes",
    "GetParametersIns",
    "GetParametersRes",
    "GetPropertiesIns",
    "GetPropertiesRes",
    "Status",
]


class Code(IntEnum):
    OK = 0
    GET_PROPERTIES_NOT_IMPLEMENTED = 1
    GET_PARAMETERS_NOT_IMPLEMENTED = 2
    FIT_NOT_IMPLEMENTED = 3
    EVALUATE_NOT_IMPLEMENTED = 4


@dataclass
class Status:
    code: Code
    message: str = ""


@dataclass
class GetPropertiesIns:
    config: Config


@dataclass
class GetPropertiesRes:
    status: Status
    properties: Properties


@dataclass
class GetParametersIns:
    config: Config


@dataclass
class GetParametersRes:
    status: Status
    parameters: Parameters


@dataclass
class FitIns:
    parameters: Parameters
    config: Config


@dataclass
class FitRes:
    status: Status
    parameters: Parameters
    num_examples: int
    metrics: Metrics


@dataclass
class EvaluateIns:
    parameters: Parameters
    config: Config


@dataclass
class EvaluateRes:
    status: Status
    loss: float
    num_examples: int
    metrics: Metrics
