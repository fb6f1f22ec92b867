"""From speech to frames with their sound: segments, actors, threads, playout."""
