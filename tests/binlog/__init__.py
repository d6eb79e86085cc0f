"""The reader of the log, on real servers and by hand."""
