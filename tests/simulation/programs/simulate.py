"""A simulation as a user's script would start it. Its argument is a JSON object:

    backend, clients, rounds, store, seconds (that each fit takes), history (a file for the result), die_in (a round in whose
    central evaluation the whole process is killed, once), ray (arguments of ray.init), after (so many others before it, of
    which each differs in what its clients hold)
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from members import Member, digest, fedavg

import umbel as fl

OPTIONS = json.loads(sys.argv[1])


class Slow(Member):
    def fit(self, parameters, config):
        print(f"fitting {self.name} in {os.getpid()}", flush=True)
        threading.Event().wait(OPTIONS.get("seconds", 0))
        return super().fit(parameters, config)


def clients_with(more):
    def client_fn(context):
        client = Slow(context, fails=False)
        client.data += more
        return client

    return client_fn


def evaluate(number, arrays, _):
    if number == OPTIONS.get("die_in") and evaluate.at == OPTIONS.get("after", 0) and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return float(number), {"digest": digest(arrays)}


if __name__ == "__main__":
    for evaluate.at in range(OPTIONS.get("after", 0) + 1):
        history = fl.simulation.start_simulation(
            client_fn=clients_with(evaluate.at),
            num_clients=OPTIONS.get("clients", 6),
            config=fl.server.ServerConfig(num_rounds=OPTIONS.get("rounds", 3)),
            strategy=fedavg(evaluate_fn=evaluate),
            backend=OPTIONS["backend"],
            workers=2,
            ray_init_args=OPTIONS.get("ray"),
            store=OPTIONS.get("store"),
            seed=3,
        )
    Path(OPTIONS.get("history", "history.json")).write_text(json.dumps(dataclasses.asdict(history)))
    print("returned", flush=True)
