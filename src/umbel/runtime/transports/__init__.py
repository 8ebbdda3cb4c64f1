"""Ways of reaching clients. All of them drive the same coordinator."""
