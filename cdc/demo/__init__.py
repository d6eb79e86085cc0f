"""`cdc demo`, and the invented practice that works in it."""
