"""Speech from an agent that is in the session's LiveKit room."""
