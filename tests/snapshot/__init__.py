"""The initial load and the proof."""
