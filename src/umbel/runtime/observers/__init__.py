"""Folds over the event stream. An observer cannot steer a run."""
