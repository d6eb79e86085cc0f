"""What is asked of the source by SQL."""
