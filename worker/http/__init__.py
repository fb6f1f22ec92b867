"""The worker's HTTP service: sessions, WHEP, status."""
