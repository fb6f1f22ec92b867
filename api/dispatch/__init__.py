"""Dispatchers: how a session finds its worker."""
