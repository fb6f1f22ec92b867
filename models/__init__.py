"""The face: portrait to identity, speech to motion, motion to frames. Arrays and tensors only."""
