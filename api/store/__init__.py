"""The store: everything the control plane remembers, in SQLite or Postgres."""
