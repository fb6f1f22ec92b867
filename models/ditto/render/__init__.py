"""Where the face lies in the photo, and the rendered face pasted back there."""
