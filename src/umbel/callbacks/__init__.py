"""Callbacks of a run, with the names that Keras has: derive from `Callback`, or take one from the box."""

from umbel.callbacks.base import Callback
from umbel.callbacks.checkpoint import ModelCheckpoint
from umbel.callbacks.csv_logger import CSVLogger
from umbel.callbacks.functions import LambdaCallback
from umbel.callbacks.stopping import EarlyStopping

__all__ = ["CSVLogger", "Callback", "EarlyStopping", "LambdaCallback", "ModelCheckpoint"]
