"""The WebSocket protocol of the speech socket, without I/O."""
