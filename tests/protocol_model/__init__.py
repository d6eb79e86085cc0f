"""The exhaustive model of the protocol: every interleaving of a small scope; `python -m tests.protocol_model` prints its table."""
