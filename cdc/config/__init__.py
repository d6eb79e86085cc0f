"""The pipeline's file: its keys, their defaults and checks, and what an error about them says."""
