"""Runs one server: python server.py OPTIONS, as JSON. Leaves `history.json`, whatever way `start_server` returns."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from controlled import Controlled
from masked import Masked
from member import Gates, initial

import umbel as fl
from umbel.pace import Pace
from umbel.runtime import run
from umbel.runtime.transports.http import polling


def main(
    gates,
    address,
    rounds=3,
    clients=2,
    size=1000,
    given=True,
    central=True,
    fails=None,
    hold=(),
    round_timeout=None,
    strategy="plain",
    keywords=None,
    snapshots=None,
    poll=None,
    watch=None,
    **options,
):
    if snapshots is not None:  # seconds between two of them: a test cannot wait for one
        run.SNAPSHOT_EVERY, run.SNAPSHOT_PAUSE = snapshots, 0.0
    if poll is not None:  # seconds that a client may be asked to wait for news
        assert polling.POLL  # it is used there
        polling.POLL = poll
    points = Gates(gates, "server", list(hold))

    def write(event):
        with open(watch, "a") as file:
            file.write(json.dumps({"event": type(event).__name__, **dataclasses.asdict(event)}) + "\n")

    def configure(number):
        points.arrive(f"configure.{number}")
        return {"round": number}

    def evaluate(number, arrays, config):
        points.arrive(f"central.{number}")
        if number == fails:
            raise ArithmeticError(f"the test set of round {number} is gone")
        return float(np.abs(arrays[0]).mean()), {"largest": float(arrays[0].max())}

    chosen = STRATEGIES[strategy](
        min_fit_clients=clients,
        min_evaluate_clients=clients,
        min_available_clients=clients,
        on_fit_config_fn=configure,
        on_evaluate_config_fn=lambda number: {"round": number},
        evaluate_fn=evaluate if central else None,
        initial_parameters=fl.common.ndarrays_to_parameters(initial(size)) if given else None,
        **(keywords or {}),
    )
    history = fl.server.start_server(
        server_address=address,
        config=fl.server.ServerConfig(num_rounds=rounds, round_timeout=round_timeout),
        strategy=chosen,
        observers=[write] if watch else [],
        **options,
    )
    Path("history.json").write_text(json.dumps(dataclasses.asdict(history)))


class AsksFirst(fl.server.strategy.FedAvg):
    """Asks every client for its properties before it chooses."""

    def configure_fit(self, server_round, parameters, client_manager):
        chosen = super().configure_fit(server_round, parameters, client_manager)
        for proxy, _ in chosen:
            told = proxy.get_properties(fl.common.GetPropertiesIns({}), timeout=10.0)
            print(f"round {server_round}: {proxy.cid} has {told.properties['examples']} examples", flush=True)
        return chosen


class OwnMean(fl.server.strategy.FedAvg):
    """Combines by itself: the plain mean of the first array, the others as the first client sent them."""

    def aggregate_fit(self, server_round, results, failures):
        replies = [fl.common.parameters_to_ndarrays(result.parameters) for _, result in results]
        print(f"round {server_round}: {[proxy.cid for proxy, _ in results]}", flush=True)
        mean = np.mean([reply[0] for reply in replies], axis=0, dtype="float64").astype("float32")
        return fl.common.ndarrays_to_parameters([mean, *replies[0][1:]]), {"replies": len(replies)}


class FirstTwo(fl.server.strategy.FedAvg):
    """Over-selection: a round of training is over when two have answered."""

    pace = Pace(goal=2, quorum=0, retries=0)


class Keeps(fl.server.strategy.FedAvg):
    """Saves the model of each round, as people do, around the method it overrides."""

    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        if parameters is not None:
            np.savez(f"round-{server_round}.npz", *fl.common.parameters_to_ndarrays(parameters))
        return parameters, metrics


class Ours(fl.server.strategy.FedAvg):
    """Gives tasks to clients with a name of one letter: strangers have longer ones, and cannot hold a round up."""

    def configure_fit(self, *asked):
        return [one for one in super().configure_fit(*asked) if len(one[0].cid) == 1]

    def configure_evaluate(self, *asked):
        return [one for one in super().configure_evaluate(*asked) if len(one[0].cid) == 1]


STRATEGIES = {
    "plain": fl.server.strategy.FedAvg,
    "adam": fl.server.strategy.FedAdam,
    "clipping": fl.server.strategy.CenteredClipping,
    "median": fl.server.strategy.FedMedian,
    "first two": FirstTwo,
    "buffered": fl.server.strategy.FedBuff,
    "asks": AsksFirst,
    "own": OwnMean,
    "keeps": Keeps,
    "ours": Ours,
    "masked": Masked,
    "control variates": Controlled,
}

if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
