"""The bench, on few rows."""
