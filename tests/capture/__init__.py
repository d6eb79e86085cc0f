"""Capture and the copies beside the stream."""
