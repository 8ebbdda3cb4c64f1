"""MXNet 1.9.1 as a client's framework: an import that works, a net's parameters, and MNIST. Knows no rounds.

MXNet's last release reads names that numpy has since removed, and `distutils`, which Python 3.12 has removed. Import this
module before `mxnet`, or take `mx` from it, and MXNet runs on Python 3.11 and 3.12 with numpy 1.23 to 1.26:

    from umbel.frameworks.mxnet import client, mx

    clients = client(make_net, train, test, data=load)

`train(net, data)` and `test(net, data)` are one's own functions; `get_parameters` and `set_parameters` are for clients that
are written by hand.

Parameters travel under structural names such as "0.weight" and "3.running_mean": every parameter of the net, biases and
BatchNorm statistics included. `net.collect_params()` is no guide, because its names ("dense4_weight") count every layer
that the process ever made, so two nets of one architecture do not agree on them.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from umbel.datasets.idx import read_idx
from umbel.datasets.mnist_files import FULL, TEST, TRAIN, edition_here
from umbel.frameworks.adapter import Adapter, Given, load_into
from umbel.frameworks.base import ModelClient
from umbel.frameworks.errors import FrameworkMissing, ParametersMismatch, ParametersNotReady
from umbel.frameworks.matching import Shapes
from umbel.params import NDArray, NDArrays

__all__ = [
    "MXNetAdapter",
    "adapter",
    "client",
    "get_mnist",
    "get_named_parameters",
    "get_parameters",
    "load",
    "mx",
    "parameters_of",
    "set_named_parameters",
    "set_parameters",
    "statistics",
    "statistics_of",
]

_log = logging.getLogger("umbel.frameworks")
_INSTALL = "Install it in an environment of its own, with Python 3.11 or 3.12: pip install 'umbel[mxnet]'"


def _make_importable() -> None:
    """Adds to numpy and Python what MXNet reads and they lack; what is there stays as it is."""
    if int(np.__version__.split(".")[0]) >= 2:
        raise FrameworkMissing(f"MXNet needs numpy 1.x, this Python has numpy {np.__version__}. {_INSTALL}", name="mxnet")
    if importlib.util.find_spec("mxnet") is None:
        raise FrameworkMissing(f"MXNet is not installed. {_INSTALL}", name="mxnet")
    # In vars(), not hasattr(): up to numpy 1.23 the names answer, with a warning that is an error where people say so.
    for name, builtin in (("bool", bool), ("int", int)):
        if name not in vars(np):
            setattr(np, name, builtin)
    if importlib.util.find_spec("distutils") is None:
        try:
            importlib.import_module("setuptools")  # brings a distutils of its own
        except ModuleNotFoundError:
            raise FrameworkMissing(
                "MXNet needs distutils, which Python 3.12 no longer has and setuptools brings: pip install setuptools",
                name="setuptools",
            ) from None


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # a dozen about numpy and distutils, none for the reader
    _make_importable()
    import mxnet as mx


class MXNetAdapter(Adapter[mx.gluon.Block]):
    """What MXNet says about its nets."""

    name = "mxnet"

    def shapes_of(self, model: mx.gluon.Block) -> Shapes:
        return {name: tuple(parameter.shape) for name, parameter in _ready(model).items()}

    def arrays_of(self, model: mx.gluon.Block) -> dict[str, NDArray]:
        return {name: parameter._reduce().asnumpy() for name, parameter in _ready(model).items()}

    def place(self, model: mx.gluon.Block, arrays: Mapping[str, NDArray]) -> mx.gluon.Block:
        parameters = _ready(model)
        for name, array in arrays.items():
            parameters[name].set_data(np.asarray(array, np.dtype(parameters[name].dtype)))
        return model

    def statistics_of(self, model: mx.gluon.Block) -> list[str]:
        return [name for name, parameter in _ready(model).items() if parameter.grad_req == "null"]

    def remember(self, model: mx.gluon.Block) -> dict[str, str]:
        return {name: parameter.grad_req for name, parameter in _ready(model).items()}

    def renew(self, model: mx.gluon.Block, memory: object, seed: int | None) -> None:
        assert isinstance(memory, dict)
        for name, parameter in _ready(model).items():
            if parameter.grad_req != memory[name]:
                parameter.grad_req = memory[name]

    def duplicate(self, model: mx.gluon.Block) -> mx.gluon.Block:
        raise TypeError("an MXNet net cannot be copied: give the class or function that makes one, initialized, as model=")


adapter = MXNetAdapter()


def client(
    model: mx.gluon.Block | Callable[[], mx.gluon.Block],
    train: Callable[..., object],
    test: Callable[..., object] | None = None,
    data: object = None,
) -> ModelClient[mx.gluon.Block]:
    """A client of this net, trained by `train(net, data)` and tested by `test(net, data)`: see `ModelClient`.

    `model` is a net, or a function that makes one, initializes it and passes a batch through it. It goes to
    `start_client(client=...)` and, with such a function, to `start_simulation(client_fn=...)`.
    """
    return ModelClient(model, train, test, data, adapter=adapter)


def parameters_of(net: mx.gluon.Block) -> dict[str, NDArray]:
    """Copies of all parameters of a net by structural name, with their dtypes; as `get_named_parameters`."""
    return adapter.arrays_of(net)


def load(net: mx.gluon.Block, parameters: Given) -> mx.gluon.Block:
    """Writes parameters, by name or in order, into a net in place, and returns it.

    Raises `ParametersMismatch` before anything is written, and `ParametersNotReady`.

    >>> net = mx.gluon.nn.Dense(1, in_units=1)
    >>> net.initialize()
    >>> load(net, {"weight": [[2.0]], "bias": [1.0]})(mx.nd.array([[3]])).asnumpy().tolist()
    [[7.0]]
    """
    return load_into(adapter, net, parameters)


def statistics_of(net: mx.gluon.Block) -> list[str]:
    """The names of what no gradient changes: BatchNorm's running means and variances, and what is frozen."""
    return adapter.statistics_of(net)


def get_parameters(net: mx.gluon.Block) -> NDArrays:
    """Copies of all parameters of a net, in the order of their structural names in the net.

    One array per parameter, of its shape and dtype (float32 unless the net was cast); the mean over devices where the net
    lives on several. A parameter that two layers share appears once. Raises `ParametersNotReady` before the net has seen
    data.

    >>> net = mx.gluon.nn.Dense(2, in_units=3)
    >>> net.initialize()
    >>> [array.shape for array in get_parameters(net)]
    [(2, 3), (2,)]
    """
    return list(get_named_parameters(net).values())


def set_parameters(net: mx.gluon.Block, arrays: Sequence[NDArray]) -> None:
    """Writes arrays, in the order of `get_parameters`, into a net in place.

    Number and shapes are checked before anything is written. Raises `ParametersMismatch` or `ParametersNotReady`.

    >>> net = mx.gluon.nn.Dense(2, in_units=1)
    >>> net.initialize()
    >>> set_parameters(net, [np.ones((2, 1)), np.zeros(2)])
    >>> net(mx.nd.array([[5]])).asnumpy().tolist()
    [[5.0, 5.0]]
    """
    parameters = _ready(net)
    if len(arrays) != len(parameters):
        raise ParametersMismatch(_wrong_number(arrays, parameters))
    set_named_parameters(net, dict(zip(parameters, arrays, strict=True)))


def statistics(net: mx.gluon.Block) -> list[int]:
    """Positions in `get_parameters` of what no gradient changes: BatchNorm's running means and variances.

    For a strategy whose server takes steps: `FedAvgM(server_momentum=0.9, averaged=statistics(net))`.

    >>> net = mx.gluon.nn.Sequential()
    >>> net.add(mx.gluon.nn.Dense(2, in_units=3), mx.gluon.nn.BatchNorm(in_channels=2))
    >>> net.initialize()
    >>> statistics(net)
    [4, 5]
    """
    return [i for i, parameter in enumerate(_ready(net).values()) if parameter.grad_req == "null"]


def get_named_parameters(net: mx.gluon.Block) -> dict[str, NDArray]:
    """As `get_parameters`, by structural name.

    >>> net = mx.gluon.nn.Sequential()
    >>> net.add(mx.gluon.nn.Dense(2, in_units=3), mx.gluon.nn.BatchNorm(in_channels=2))
    >>> net.initialize()
    >>> list(get_named_parameters(net))
    ['0.weight', '0.bias', '1.gamma', '1.beta', '1.running_mean', '1.running_var']
    """
    return adapter.arrays_of(net)


def set_named_parameters(net: mx.gluon.Block, arrays: Mapping[str, NDArray]) -> None:
    """Writes arrays into the parameters with these structural names, in place; the others keep their values.

    So a client can keep layers to itself. Names and shapes are checked before anything is written. Raises
    `ParametersMismatch` or `ParametersNotReady`.

    >>> net = mx.gluon.nn.Dense(2, in_units=1)
    >>> net.initialize()
    >>> set_named_parameters(net, {"bias": np.array([3.0, 4.0])})
    >>> get_named_parameters(net)["bias"].tolist()
    [3.0, 4.0]
    """
    parameters = _ready(net)
    values = {name: _fitting(name, array, parameters) for name, array in arrays.items()}
    for name, value in values.items():
        parameters[name].set_data(value)


def get_mnist() -> dict[str, NDArray]:
    """MNIST from Umbel's local cache, as `mx.test_utils.get_mnist()` gives it, whose download host is gone.

    "train_data" (60000, 1, 28, 28) and "test_data" (10000, 1, 28, 28), float32 in [0, 1]; "train_label" and "test_label",
    int8 digits. Where the cache holds only the 5,000 digits, it says so. Raises `DataError` where it holds neither, with
    what to run.
    """
    edition = edition_here() or FULL  # reading FULL where there is nothing says what to run
    if edition is not FULL:
        _log.warning("MNIST from %s: %s.", edition.files.path, edition)
    mnist: dict[str, NDArray] = {}
    for split, (images, labels) in {"train": TRAIN, "test": TEST}.items():
        mnist[f"{split}_data"] = read_idx(edition.files.read(images))[:, np.newaxis].astype(np.float32) / 255
        mnist[f"{split}_label"] = read_idx(edition.files.read(labels)).view(np.int8)
    return mnist


def _ready(net: mx.gluon.Block) -> dict[str, mx.gluon.Parameter]:
    """The net's parameters by structural name, each once, all with values."""
    parameters: dict[str, mx.gluon.Parameter] = {}
    seen: set[int] = set()
    for name, parameter in net._collect_params_with_prefix().items():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        if parameter._data is None:
            raise ParametersNotReady(_not_ready(name, parameter))
        if parameter._stype != "default":
            raise ParametersMismatch(
                f"parameter {name!r} is stored as {parameter._stype}; only dense parameters travel. Use "
                "nn.Embedding(..., sparse_grad=True): dense values, sparse gradients."
            )
        parameters[name] = parameter
    return parameters


def _not_ready(name: str, parameter: mx.gluon.Parameter) -> str:
    if parameter._deferred_init:
        return (
            f"parameter {name!r} has no values yet: in its shape {parameter.shape}, 0 or -1 is a size that MXNet learns "
            "from the first data. Pass one batch through the net first, net(batch), or give every layer its input size "
            "(in_units, in_channels)."
        )
    return (
        f"parameter {name!r}, shape {parameter.shape}, was never initialised. Call net.initialize(), then pass one batch "
        "through the net."
    )


def _fitting(name: str, array: NDArray, parameters: Mapping[str, mx.gluon.Parameter]) -> NDArray:
    """The array in its parameter's dtype, if the parameter exists and has its shape."""
    if name not in parameters:
        raise ParametersMismatch(f"the net has no parameter {name!r}; it has {', '.join(parameters)}.")
    shape, dtype = parameters[name].shape, np.dtype(parameters[name].dtype)
    if np.shape(array) != shape:
        raise ParametersMismatch(
            f"parameter {name!r} has shape {shape}, the array for it has shape {np.shape(array)}. All clients must build "
            "the same net, and return every array in get_parameters order."
        )
    return np.asarray(array, dtype)


def _wrong_number(arrays: Sequence[NDArray], parameters: Mapping[str, mx.gluon.Parameter]) -> str:
    text = f"got {len(arrays)} arrays, the net has {len(parameters)} parameters"
    for position, (array, (name, parameter)) in enumerate(zip(arrays, parameters.items(), strict=False)):
        if np.shape(array) != parameter.shape:
            text += f"; array {position} has shape {np.shape(array)} where {name!r}, shape {parameter.shape}, belongs"
            break
    else:
        if len(arrays) < len(parameters):
            name, parameter = list(parameters.items())[len(arrays)]
            text += f"; missing {name!r}, shape {parameter.shape}"
    return f"{text}. Return every array, in get_parameters order: biases and running statistics too."
