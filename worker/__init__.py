"""The runtime: speech in, paired audio and pictures out to a room, many sessions per process."""
