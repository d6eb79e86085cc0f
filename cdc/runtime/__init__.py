"""What every process of ours has: logs, metrics, clocks, durations, signals of the system, supervision,
crash points."""
