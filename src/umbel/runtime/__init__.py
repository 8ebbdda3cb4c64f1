"""The only floor that does I/O: the loop, files, journals, transports and observers."""
