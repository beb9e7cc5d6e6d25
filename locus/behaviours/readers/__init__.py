"""Readers of what people have: one published shape a file, each strict, each found by its name among `readers`."""
