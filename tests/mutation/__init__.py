"""Small wrong changes, one at a time, in the core: would its fast tests see them? `python -m tests.mutation --help`."""
