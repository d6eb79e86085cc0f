"""Which decisions of the core were taken while a lane ran, and how often: `python -m tests.decisions`."""
