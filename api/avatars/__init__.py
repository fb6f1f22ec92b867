"""Avatars: an uploaded photo becomes a portrait that can talk."""
