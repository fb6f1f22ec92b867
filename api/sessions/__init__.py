"""Sessions: their bodies, where they run, how they end, what is said of them."""
