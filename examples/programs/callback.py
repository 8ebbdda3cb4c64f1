"""Callbacks: print something of each round, and keep the best model and a table."""

import umbel as fl
from digits import load, make, test, train
from umbel.callbacks import Callback, CSVLogger, ModelCheckpoint

fed = fl.federate(make, train, test, data=load)


class Prints(Callback):
    def on_round_end(self, round, logs):
        largest = max(abs(array).max() for array in self.parameters.values())
        print(f"round {round}: loss {logs['loss']:.3f}, largest weight {largest:.2f}")


best = ModelCheckpoint("best.safetensors", save_best_only=True)
fed.simulate(clients=10, rounds=5, callbacks=[Prints(), best, CSVLogger("rounds.csv")])
