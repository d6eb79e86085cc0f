"""The proof that both sides are equal, its report, and the repair of what is not."""
