"""Umbel: federated learning. `import umbel as fl`."""
