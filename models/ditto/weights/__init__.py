"""The released files: what they are, how they are fetched and read."""
