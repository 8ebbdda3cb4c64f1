"""One module per machine-learning framework, each imported by name: `from umbel.frameworks import torch`.

    client = torch.client(Net, train, test, data=load)       # for start_client, and for start_simulation
    parameters = torch.parameters_of(net)                     # a dict of names to arrays
    net = torch.load(net, parameters)

A framework is imported when its module is. `adapter_for(model)` finds the module that knows a model.
"""

from __future__ import annotations

from umbel.frameworks.adapter import Adapter, adapter_for
from umbel.frameworks.base import ModelClient

__all__ = ["Adapter", "ModelClient", "adapter_for"]
