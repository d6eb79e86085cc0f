"""The commands on bad input, bad places and bad streams."""
