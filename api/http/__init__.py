"""HTTP in general: errors, middleware, limits, the sockets it listens on."""
