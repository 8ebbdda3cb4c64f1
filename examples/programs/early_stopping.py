"""Early stopping: the run ends when two rounds were not better by 0.05, and its best model is at hand."""

import umbel as fl
from digits import load, make, test, train
from umbel.callbacks import EarlyStopping

fed = fl.federate(make, train, test, data=load)

history = fed.simulate(
    clients=10,
    rounds=100,
    strategy="fedavgm",
    server_momentum=0.5,
    keep_best="loss",
    callbacks=[EarlyStopping(patience=2, min_delta=0.05)],
)
print(history.best.round, history.best.model)
