"""Features of speech to key points, frame by frame."""
