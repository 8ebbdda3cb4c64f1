"""Clients of simulations, as plain classes: by hand in a loop, and in either framework, it is the same code that runs.

An `Owner(number)` has `fit(parameters, config)`, and `initial()` gives the first model.
"""
