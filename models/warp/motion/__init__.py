"""Speech and idling to poses: one motion vector a frame."""
