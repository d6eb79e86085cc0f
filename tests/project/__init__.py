"""The repository itself: its structure, documents, guarantees, images."""
