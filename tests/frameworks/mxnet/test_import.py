"""Importing MXNet 1.9.1 on a Python and a numpy that came after it. Each story is a fresh interpreter."""

import subprocess
import sys

IMPORT = "import umbel.frameworks.mxnet"
USE = "import mxnet as mx; print((mx.np.array([1, 2, 3]) > 1).tolist())"


def story(*lines):
    """Runs the lines with every warning an error; standard output and the last line of standard error."""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", "\n".join(lines)], capture_output=True, text=True)
    return ran.stdout.strip(), (ran.stderr.strip().splitlines() or [""])[-1]


def test_mxnet_imports_and_computes_without_a_warning():
    assert story(IMPORT, USE) == ("[False, True, True]", "")


def test_mxnet_imports_after_an_import_that_failed():
    """The order of a notebook: import mxnet, read the error, import the remedy."""
    failed = ["try: import mxnet", "except (AttributeError, Warning): pass"]
    assert story(*failed, IMPORT, USE) == ("[False, True, True]", "")


def test_names_that_numpy_lacks_are_the_builtins_they_used_to_be():
    assert story(IMPORT, "import numpy as np; print(np.bool is bool, np.int is int)") == ("True True", "")


def test_names_that_are_there_stay_as_they_are():
    before = "import numpy as np; np.bool = np.bool_"
    assert story(before, IMPORT, "print(np.bool is np.bool_, np.int is int)") == ("True True", "")


def test_the_import_leaves_the_warning_filters_alone():
    before = "import numpy, warnings; filters = list(warnings.filters)"
    assert story(before, IMPORT, "print(warnings.filters == filters)") == ("True", "")


def test_without_mxnet_the_error_says_what_to_install():
    out, error = story("import sys; sys.modules['mxnet'] = None", IMPORT)
    assert (out, error) == (
        "",
        "umbel.frameworks.errors.FrameworkMissing: MXNet is not installed. "
        "Install it in an environment of its own, with Python 3.11 or 3.12: pip install 'umbel[mxnet]'",
    )
