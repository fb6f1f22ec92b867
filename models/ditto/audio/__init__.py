"""Speech to the features that the motion model takes."""
