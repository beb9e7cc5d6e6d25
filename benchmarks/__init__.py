"""How fast an audit is, against what others wrote and against what the machine can do: `python -m benchmarks [TABLE ...]`."""
