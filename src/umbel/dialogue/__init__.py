"""The classic requests and responses, and what is in them: parameters, and plain scalars. Knows no rounds and no I/O."""

from umbel.dialogue.parameters import (
    GivenParameters,
    Parameters,
    as_parameters,
    bytes_to_ndarray,
    ndarray_to_bytes,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from umbel.dialogue.requests import (
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Status,
)
from umbel.dialogue.scalars import Config, Metrics, MetricsAggregationFn, Properties, Scalar, as_text, plain_scalar, scalars

__all__ = [
    "Code",
    "Config",
    "EvaluateIns",
    "EvaluateRes",
    "FitIns",
    "FitRes",
    "GetParametersIns",
    "GetParametersRes",
    "GetPropertiesIns",
    "GetPropertiesRes",
    "GivenParameters",
    "Metrics",
    "MetricsAggregationFn",
    "Parameters",
    "Properties",
    "Scalar",
    "Status",
    "as_parameters",
    "as_text",
    "bytes_to_ndarray",
    "ndarray_to_bytes",
    "ndarrays_to_parameters",
    "parameters_to_ndarrays",
    "plain_scalar",
    "scalars",
]
