"""Trackers: each round's numbers in TensorBoard, for three learning rates. `tensorboard --logdir runs` shows them."""

import umbel as fl
from digits import load, make, test, train

fed = fl.federate(make, train, test, data=load)
for lr in (0.01, 0.1, 0.5):  # train(net, data, lr) is given what the strategy sends
    history = fed.simulate(clients=10, rounds=3, report_to="tensorboard", on_fit_config_fn=lambda round, lr=lr: {"lr": lr})
    print(lr, history.losses_distributed[-1])
