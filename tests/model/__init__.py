"""The exhaustive model of the protocol: every interleaving of a small scope; `python -m tests.model` prints its table."""
