"""Words in, one document out, exit code. Knows no stage."""
