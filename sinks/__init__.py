"""Where changes go: PostgreSQL."""
