"""Resume: a run with a store that is killed goes on where it was, when the same script is started again."""

import os
import signal

import umbel as fl
from digits import load, make, test, train
from umbel.callbacks import LambdaCallback

fed = fl.federate(make, train, test, data=load)


def die(round, logs):
    if round == 3 and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)


fed.simulate(clients=10, rounds=5, store="runs", callbacks=[LambdaCallback(on_round_end=die)])
