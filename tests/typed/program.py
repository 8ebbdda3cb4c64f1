"""A program as people write it, which type checkers read and nobody runs. Comments say what they must make of a line."""

from collections.abc import Mapping
from typing import reveal_type

import numpy as np

import umbel as fl
from umbel.server.strategy import FedAvg

reveal_type(fl.server.strategy.FedAvg())  # is FedAvg
reveal_type(fl.server.strategy.Krum(num_malicious_clients=1))  # is Krum
reveal_type(fl.server.strategy.PowerOfChoice(FedAvg(), candidates=3))  # is PowerOfChoice
reveal_type(fl.server.ServerConfig(num_rounds=3))  # is ServerConfig
reveal_type(fl.server.Pace(goal=3))  # is Pace
reveal_type(fl.server.Until(patience=3))  # is Until
reveal_type(fl.common.ndarrays_to_parameters([np.zeros(3)]))  # is Parameters
reveal_type(fl.datasets.FederatedDataset(dataset="mnist", partitioners={"train": 3}))  # is FederatedDataset
reveal_type(fl.errors.UmbelError())  # is UmbelError
reveal_type(fl.__version__)  # is str
reveal_type(fl.load("model.safetensors"))  # is NamedArrays


class Right(fl.client.NumPyClient):
    def get_parameters(self, config: fl.common.Config) -> fl.common.NDArrays:
        return [np.zeros(3, "float32")]

    def fit(
        self, parameters: fl.common.NDArrays, config: fl.common.Config
    ) -> tuple[fl.common.NDArrays, int, fl.common.Metrics]:
        return parameters, 3, {"loss": 0.5}

    def evaluate(self, parameters: fl.common.NDArrays, config: fl.common.Config) -> tuple[float, int, fl.common.Metrics]:
        return 0.5, 3, {}


class Wrong(fl.client.NumPyClient):
    def fit(self, parameters: int) -> int:  # wrong
        return 3


class Saves(fl.server.strategy.FedAvg):
    def initialize_parameters(self, client_manager: fl.server.ClientManager) -> fl.common.Parameters | None:
        return super().initialize_parameters(client_manager)


def client_fn(context: fl.common.Context) -> fl.client.Client:
    return Right().to_client()


def by_name(cid: str) -> fl.client.NumPyClient:
    return Right()


def evaluate(
    number: int, arrays: fl.common.NDArrays, config: dict[str, fl.common.Scalar]
) -> tuple[float, fl.common.Metrics]:
    return float(number), {"size": len(arrays)}


def mean(metrics: list[tuple[int, fl.common.Metrics]]) -> fl.common.Metrics:
    return {"clients": len(metrics)}


def watch(event: fl.events.Event) -> None:
    match event:
        case fl.events.TaskAnswered(client=client, seconds=seconds):
            reveal_type(client)  # is str
            reveal_type(seconds)  # is float
        case fl.events.RoundClosed():
            print(event.round, event.metrics.get("accuracy"), event.secnds)  # wrong
        case _:
            pass


class Rows:
    def __call__(self, event: fl.events.Event) -> int:
        return 3


def takes_text(event: str) -> None:
    pass


strategy = Saves(fraction_fit=0.5, evaluate_fn=evaluate, fit_metrics_aggregation_fn=mean)
config = fl.server.ServerConfig(num_rounds=3)
simulated = fl.simulation.start_simulation(client_fn=client_fn, num_clients=3, config=config, strategy=strategy)
reveal_type(simulated)  # is History
reveal_type(fl.server.start_server(server_address="127.0.0.1:8080", config=config, strategy=strategy))  # is History
fl.simulation.start_simulation(client_fn=by_name, clients_ids=["a", "b"])
fl.client.start_client(server_address="127.0.0.1:8080", client=Right())
fl.client.start_client(server_address="127.0.0.1:8080", client=Right().to_client(), client_id="a")
fl.client.start_numpy_client(server_address="127.0.0.1:8080", client=Right())

fl.simulation.start_simulation(client_fn=client_fn, num_clients=3, observers=[watch, Rows()])
fl.server.start_server(observers=[lambda event: print(event.at)])



class Prints(fl.callbacks.Callback):
    def on_round_end(self, round: int, logs: Mapping[str, object]) -> None:
        reveal_type(self.history)  # is History


fed = fl.federate(dict, lambda model, data: None, data=lambda number: [number])
reveal_type(fed.simulate(clients=3, rounds=2, strategy="fedavgm", server_momentum=0.9))  # is History
reveal_type(fed.serve("127.0.0.1:8080", strategy=FedAvg()))  # is History
fed.serve(rounds="2")  # wrong
reveal_type(fl.callbacks.EarlyStopping(patience=3))  # is EarlyStopping
fl.server.start_server(callbacks=[Prints(), fl.callbacks.CSVLogger("rounds.csv")], report_to=["tensorboard", "csv"])
fl.simulation.start_simulation(client_fn=client_fn, num_clients=3, report_to="wandb")
fl.simulation.start_simulation(client_fn=client_fn, num_clients=3, report_to="wand")  # wrong
fl.server.start_server(callbacks=[watch])  # wrong
fl.server.start_server(observers=[takes_text])  # wrong
fl.simulation.start_simulation(client_fn=client_fn, nonsense=3)  # wrong
fl.server.strategy.FedAvg(fraction_fti=0.5)  # wrong
fl.server.strategy.FedAvg(fraction_fit="half")  # wrong
fl.sever.start_server()  # wrong
fl.server.start_servr()  # wrong
fl.client.start_cleint()  # wrong
