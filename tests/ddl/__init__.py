"""Statements of the log."""
