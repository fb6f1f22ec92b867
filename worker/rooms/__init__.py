"""Places an avatar can appear in, behind one port."""
