"""What people can import: every name that a module announces, every path of the classic API, and nothing too heavy."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import umbel

MODULES = sorted(module.name for module in pkgutil.walk_packages(umbel.__path__, "umbel."))
OPTIONAL = {"mxnet", "datasets", "PIL", "pyarrow", "ray", "numba"}


def load(name):
    """The module, unless it needs an extra that is not installed here."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in OPTIONAL or name.startswith("umbel.frameworks"):
            pytest.skip(f"{name} needs {missing or error}")
        raise


def constants_classes_functions(name):
    """The order in which ruff sorts."""
    return not name.isupper(), not name[0].isupper(), name


def in_a_new_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_every_name_in_it_exists(name):
    module = load(name)
    announced = getattr(module, "__all__", None)
    if announced is None:
        tree = ast.parse(inspect.getsource(module))
        defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
        assert not defined, f"{name} has no __all__, but defines {defined}"
        return
    assert len(set(announced)) == len(announced)
    assert list(announced) == sorted(announced, key=constants_classes_functions)
    assert [wanted for wanted in announced if not hasattr(module, wanted)] == []


@pytest.mark.parametrize("name", ["umbel", *MODULES])
def test_the_examples_in_docstrings_are_true(name):
    module = load(name)
    failed, _ = doctest.testmod(module)
    assert failed == 0


@pytest.mark.parametrize("name", ["umbel", *MODULES])
def test_every_module_says_what_it_is_for(name):
    assert (load(name).__doc__ or "").strip()


def test_the_names_of_the_package_come_on_demand():
    for name in umbel.__all__:
        assert getattr(umbel, name).__name__ in (f"umbel.{name}", name)
    assert set(umbel.__all__) <= set(dir(umbel))
    assert umbel.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="module 'umbel' has no attribute 'nonsense'"):
        _ = umbel.nonsense


HEAVY = ["sqlalchemy", "httptools", "datasets", "mxnet", "torch", "rich", "click", "PIL", "pandas", "safetensors"]


@pytest.mark.parametrize("statement", ["import umbel", "import umbel.client", "import umbel as fl; fl.client.start_client"])
def test_a_client_loads_nothing_of_the_server(statement):
    code = f"{statement}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    assert json.loads(in_a_new_process(code)) == []


def test_importing_umbel_starts_no_thread_and_leaves_logging_and_random_numbers_alone():
    code = (
        "import logging, random, threading\nimport numpy as np\n"
        "before = random.getstate(), np.random.get_state()[1].tolist()\n"
        "import umbel as fl\nfl.client, fl.server, fl.common, fl.server.start_server\n"
        "assert (random.getstate(), np.random.get_state()[1].tolist()) == before\n"
        "assert threading.active_count() == 1\nassert not logging.getLogger().handlers\n"
    )
    in_a_new_process(code)


CLASSIC = {
    "umbel.client": "NumPyClient Client ClientApp start_client start_numpy_client",
    "umbel.server": "start_server ServerConfig ServerApp Server History SimpleClientManager ClientManager ClientProxy "
    "Criterion",
    "umbel.server.strategy": "Strategy FedAvg",
    "umbel.server.strategy.aggregate": "aggregate weighted_loss_avg",
    "umbel.server.client_manager": "ClientManager SimpleClientManager",
    "umbel.server.client_proxy": "ClientProxy",
    "umbel.server.criterion": "Criterion",
    "umbel.server.history": "History",
    "umbel.common": "NDArray NDArrays Metrics Scalar Config Parameters Properties Context Code Status FitIns FitRes "
    "EvaluateIns EvaluateRes GetParametersIns GetParametersRes GetPropertiesIns GetPropertiesRes MetricsAggregationFn "
    "ndarrays_to_parameters parameters_to_ndarrays ndarray_to_bytes bytes_to_ndarray log",
    "umbel.common.typing": "NDArrays Metrics Scalar Config Parameters Properties Code Status FitIns FitRes EvaluateIns "
    "EvaluateRes",
    "umbel.common.logger": "configure log logger",
    "umbel.common.parameter": "ndarrays_to_parameters parameters_to_ndarrays ndarray_to_bytes bytes_to_ndarray",
}


@pytest.mark.parametrize("path", CLASSIC)
def test_the_classic_imports_work(path):
    module = importlib.import_module(path)
    assert [name for name in CLASSIC[path].split() if not hasattr(module, name)] == []


def keywords(function):
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if name != "self"}


def test_fedavg_takes_every_classic_keyword_with_its_classic_default():
    from umbel.server.strategy import FedAvg

    ours = {"select": None, "transform": None, "pace": None, "until": None, "keep_best": None, "evaluate_every": 1}
    ours |= {"max_update_norm": None}
    assert keywords(FedAvg.__init__) == ours | {
        "fraction_fit": 1.0,
        "fraction_evaluate": 1.0,
        "min_fit_clients": 2,
        "min_evaluate_clients": 2,
        "min_available_clients": 2,
        "evaluate_fn": None,
        "on_fit_config_fn": None,
        "on_evaluate_config_fn": None,
        "accept_failures": True,
        "initial_parameters": None,
        "fit_metrics_aggregation_fn": None,
        "evaluate_metrics_aggregation_fn": None,
        "inplace": True,
    }


def test_starting_takes_every_classic_keyword():
    from umbel.client import start_client
    from umbel.server import ServerConfig, start_server

    assert set(keywords(start_client)) >= {
        *("server_address", "client", "client_fn", "root_certificates", "insecure", "max_retries", "max_wait_time"),
        *("client_id", "grpc_max_message_length"),
    }
    assert set(keywords(start_server)) >= {
        *("server_address", "server", "config", "strategy", "client_manager", "certificates", "grpc_max_message_length"),
    }
    assert keywords(ServerConfig) == {"num_rounds": 1, "round_timeout": None}


def test_the_strategy_interface_has_its_six_methods():
    from umbel.server.strategy import Strategy

    assert Strategy.__abstractmethods__ == {
        *("initialize_parameters", "configure_fit", "aggregate_fit", "configure_evaluate", "aggregate_evaluate", "evaluate"),
    }


def test_every_error_is_an_umbel_error_and_of_a_built_in_family():
    from umbel import errors

    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.UmbelError)
        assert name == "UmbelError" or issubclass(error, ValueError | RuntimeError | OSError)


def test_nothing_in_the_package_depends_on_assertions():
    """`python -O` drops them: an assert may document what a type checker cannot see, and change nothing."""
    code = (
        "import numpy as np\nfrom umbel.server.strategy.aggregate import aggregate\nfrom umbel.params import Params\n"
        "print(aggregate([([np.array([0.0])], 1), ([np.array([4.0])], 3)])[0].tolist())\n"
        "try:\n    Params.from_bytes(b'x')\nexcept ValueError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[3.0]\nrefused\n"


def test_the_package_says_that_it_is_typed():
    assert (Path(umbel.__path__[0]) / "py.typed").exists()


def test_no_module_of_the_package_unpickles():
    """What comes from the network, the journal or a file is data. (A simulation's own workers get their client pickled.)"""
    allowed = re.compile(r"umbel[/.](runtime[/.]transports[/.]simulated|simulation|runtime[/.]ray)")
    found = []
    for path in sorted(Path(umbel.__path__[0]).rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.partition(".")[0] for name in names} & {"pickle", "cloudpickle", "marshal", "shelve", "dill", "joblib"}:
                found.append(path.relative_to(Path(umbel.__path__[0]).parent).as_posix())
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                found.append(path.relative_to(Path(umbel.__path__[0]).parent).as_posix())
    assert [path for path in found if not allowed.match(path)] == []
