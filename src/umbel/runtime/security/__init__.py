"""Who may come in: TLS, certificates, keys, signatures and members. What it does not know: tasks, rounds and models."""
