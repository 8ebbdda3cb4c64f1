"""An example of examples/frameworks, wherever it can run: two clients, two rounds; prints a line of JSON for each run.

    python everywhere.py EXAMPLE meet ADDRESS         inline, then in processes, then as a server of two clients
    python everywhere.py EXAMPLE join ADDRESS NAME
    python everywhere.py EXAMPLE keep FOLDER          with DIES_IN=ROUND in the environment it is killed there
"""

import hashlib
import importlib
import json
import os
import signal
import sys
from pathlib import Path

import umbel as fl

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "frameworks"))


def look(server_round, arrays, config):
    """The first bits of a digest of the model, as a number that a History keeps."""
    if str(server_round) == os.environ.get("DIES_IN"):
        os.kill(os.getpid(), signal.SIGKILL)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()
    return float(len(arrays)), {"digest": int.from_bytes(digest[:6], "little")}


def main(example, what, where, name=""):
    module = importlib.import_module(example)
    client, make_strategy = module.client, getattr(module, "strategy", fl.server.strategy.FedAvg)
    counts = dict.fromkeys(("min_fit_clients", "min_available_clients", "min_evaluate_clients"), 2)
    run = {"config": fl.server.ServerConfig(num_rounds=2), "seed": 3}
    simulation = {"client_fn": client, "num_clients": 2, **run}

    def strategy():
        return make_strategy(evaluate_fn=look, **counts)

    match what:
        case "join":
            fl.client.start_client(server_address=where, client=client, client_id=name)
        case "meet":
            tell(fl.simulation.start_simulation(backend="inline", strategy=strategy(), **simulation))
            tell(fl.simulation.start_simulation(backend="processes", workers=2, strategy=strategy(), **simulation))
            tell(fl.server.start_server(server_address=where, strategy=strategy(), **run))
        case "keep":
            tell(fl.simulation.start_simulation(backend="inline", store=where, strategy=strategy(), **simulation))


def tell(history):
    kept = vars(history) if hasattr(history, "__dict__") else {name: getattr(history, name) for name in history.__slots__}
    print(json.dumps({name: kept[name] for name in sorted(kept) if name.startswith(("losses", "metrics"))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
