"""The networks in torch, one a file, and how they are made fast."""
