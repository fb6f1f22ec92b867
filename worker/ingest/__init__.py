"""The ways in for speech: a WebSocket, an agent in a LiveKit room, a file."""
