"""Speech to motion: what the warp engine hears."""
