"""The crash lane: a workload that keeps its own ledger in the source, faults that follow from a seed, an oracle of its own."""
