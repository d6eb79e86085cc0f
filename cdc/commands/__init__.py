"""One file a command: the stages are put together here and nowhere else."""
