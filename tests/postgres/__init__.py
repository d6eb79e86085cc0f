"""Errors of PostgreSQL."""
