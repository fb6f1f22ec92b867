"""HTTP in general: errors, envelope, limits, the sockets it listens on."""
