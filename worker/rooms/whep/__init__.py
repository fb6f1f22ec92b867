"""Rooms that are watched by WHEP."""
