"""The embedded engine: one photo, warped per frame; real time on a laptop's CPU."""
