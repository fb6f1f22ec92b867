"""LiveKit rooms."""
