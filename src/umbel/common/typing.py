"""Requests, responses and their parts."""

from umbel.context import Context
from umbel.dialogue import (
    Code,
    Config,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Metrics,
    MetricsAggregationFn,
    Parameters,
    Properties,
    Scalar,
    Status,
)
from umbel.params import NamedArrays, NDArray, NDArrays

__all__ = [
    "Code",
    "Config",
    "Context",
    "EvaluateIns",
    "EvaluateRes",
    "FitIns",
    "FitRes",
    "GetParametersIns",
    "GetParametersRes",
    "GetPropertiesIns",
    "GetPropertiesRes",
    "Metrics",
    "MetricsAggregationFn",
    "NDArray",
    "NDArrays",
    "NamedArrays",
    "Parameters",
    "Properties",
    "Scalar",
    "Status",
]
