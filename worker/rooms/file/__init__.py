"""Recordings: MP4 files."""
