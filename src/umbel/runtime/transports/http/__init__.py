"""Clients over HTTP/1.1, on one port."""
