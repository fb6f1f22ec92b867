"""What this machine is and can do: checks, measured speed, capacity."""
