"""What the routes work with, and how it is put together."""
