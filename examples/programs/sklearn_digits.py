"""scikit-learn: a linear classifier, on digits that are dealt out to ten owners."""

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

import umbel as fl

x, y = load_digits(return_X_y=True)
fed = fl.federate(SGDClassifier(loss="log_loss"), data=[(x[n::10] / 16, y[n::10]) for n in range(10)])
history = fed.simulate(rounds=10)
print(history.columns()["accuracy"])
