"""Tests: a folder a room of the product, what they share in `helpers`, and the long lanes."""
