"""What happens in a run, and in what order. Nothing here knows an array, a clock, a thread or a socket."""
