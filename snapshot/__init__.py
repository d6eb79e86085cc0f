"""Initial copy, verification and its report."""
