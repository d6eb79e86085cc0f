"""The practice of the demo."""
