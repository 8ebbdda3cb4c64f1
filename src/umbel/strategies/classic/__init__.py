"""Strategies by their classic methods: the only place that knows client managers, proxies and responses."""
