"""Strategies: how a run chooses, combines and steps."""
