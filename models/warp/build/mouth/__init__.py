"""Lips, teeth and tongue of the photo, once for each portrait."""
