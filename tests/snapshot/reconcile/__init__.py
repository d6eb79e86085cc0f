"""The proof that both sides agree."""
