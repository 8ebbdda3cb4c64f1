"""Sums whose parts the server cannot read, with made-up arithmetic: a round of three exchanges, keys → fit → unmask.

Each client tells a number (keys). What it has learnt travels in fixed point, under one mask for each of the others, which
has the opposite sign at that other (fit). Where one that has told its number does not answer, the survivors tell the seeds
of the masks that they share with it (unmask). No client keeps anything from one exchange to the next. The numbers are no
secret, so nothing is: it is the exchanges that this is about.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

import umbel as fl
from umbel.common import EvaluateIns, FitIns, GetPropertiesIns, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.server.exchanges import FIT, Exchange, Kind, To

__all__ = ["DTYPES", "Masked", "key_of", "masked", "seeds_of"]

SCALE = 2.0**20
DTYPES = ["float32", "float64", "int64", "float16"]  # of the model that member.initial() makes


def key_of(name, number):
    return crc32(f"{name} in round {number}".encode())


def masked(arrays, keys, place):
    """What the client at this place sends for its arrays: whole numbers, modulo 2⁶⁴."""
    sent = [np.rint(np.asarray(array, np.float64) * SCALE).astype(np.int64) for array in arrays]
    others = [other for other in range(len(keys)) if other != place]
    return add_masks(sent, [_sign(place, other) for other in others], _seeds(keys, place, others))


def seeds_of(keys, place, gone):
    """The seeds of the masks that this client shares with those that are gone, as bytes."""
    return np.array(_seeds(keys, place, gone), np.int64).tobytes()


def add_masks(sent, signs, seeds):
    for sign, seed in zip(signs, seeds, strict=True):
        rng = np.random.RandomState(seed)
        with np.errstate(over="ignore"):  # that is what modulo means
            sent = [array + sign * rng.randint(-(2**62), 2**62, array.shape, np.int64) for array in sent]
    return sent


def _seeds(keys, place, others):
    return [int(keys[place]) ^ int(keys[other]) for other in others]


def _sign(place, other):
    return 1 if place < other else -1


class Masked(fl.server.strategy.FedAvg):
    """The plain mean of what the clients send under masks."""

    exchanges = (
        Exchange("keys", Kind.PROPERTIES),
        FIT.among(To.SURVIVORS),
        Exchange("unmask", Kind.EVALUATE, To.SURVIVORS),
    )
    receives = "anything"

    def configure_exchange(self, exchange, server_round, parameters, client_manager, answers):
        if exchange == "keys":
            chosen = self.configure_fit(server_round, parameters, client_manager)
            return [(client, GetPropertiesIns({"round": server_round})) for client, _ in chosen]
        keys = np.array([told.properties["key"] for _, told in answers["keys"]], np.int64)
        places = {client.cid: place for place, (client, _) in enumerate(answers["keys"])}
        present = client_manager.all()
        if exchange == "fit":
            given = ndarrays_to_parameters([*parameters_to_ndarrays(parameters), keys])
            config = {name: {"round": server_round, "place": place} for name, place in places.items()}
            return [(present[name], FitIns(given, config[name])) for name in places if name in present]
        trained = [client.cid for client, _ in answers["fit"]]
        gone = np.array([place for name, place in places.items() if name not in trained], np.int64)
        given = ndarrays_to_parameters([keys, gone])
        config = {name: {"round": server_round, "place": places[name]} for name in trained}
        return [(present[name], EvaluateIns(given, config[name])) for name in trained if name in present]

    def aggregate_exchanges(self, server_round, results, failures, answers):
        if not results:
            return None, {}
        places = {client.cid: place for place, (client, _) in enumerate(answers["keys"])}
        trained = [client.cid for client, _ in results]
        gone = [place for name, place in places.items() if name not in trained]
        seeds = {client.cid: np.frombuffer(told.metrics["seeds"], np.int64) for client, told in answers["unmask"]}
        if gone and set(seeds) != set(trained):
            return None, {"masks that nobody has told": len(set(trained) - set(seeds))}
        sent = [parameters_to_ndarrays(res.parameters) for _, res in results]
        with np.errstate(over="ignore"):
            total = [sum(arrays) for arrays in zip(*sent, strict=True)]
        for name in trained if gone else ():
            total = add_masks(total, [-_sign(places[name], other) for other in gone], seeds[name])
        mean = [each / SCALE / len(results) for each in total]
        whole = [np.rint(each) if dtype == "int64" else each for each, dtype in zip(mean, DTYPES, strict=True)]
        made = [np.asarray(each).astype(dtype) for each, dtype in zip(whole, DTYPES, strict=True)]
        return ndarrays_to_parameters(made), {"gone": len(gone), "unmasked": len(seeds)}
