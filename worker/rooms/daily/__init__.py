"""Daily calls."""
