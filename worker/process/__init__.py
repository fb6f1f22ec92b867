"""The process itself: its cores, its memory, its parent."""
