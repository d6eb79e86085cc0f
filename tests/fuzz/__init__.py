"""Mutated real images against every kernel of the codec: `python -m tests.fuzz --help`, or `make fuzz`."""
