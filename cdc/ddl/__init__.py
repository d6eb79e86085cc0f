"""Statements of the log: which tables they touch and what they do. Pure."""
