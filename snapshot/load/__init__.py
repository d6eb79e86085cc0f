"""The initial load: tables copied in pieces, by several workers, at a bearable speed."""
