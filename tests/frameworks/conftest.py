"""The tests in `mxnet/` run where MXNet is; from anywhere else `test_mxnet.py` runs them in its environment."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("mxnet") else ["mxnet"]
