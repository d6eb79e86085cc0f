"""Transports, held to one contract."""
