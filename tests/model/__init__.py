"""Names, policies, positions."""
