"""What must be true before a start."""
