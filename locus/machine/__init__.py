"""The machine: its threads and its processes."""
