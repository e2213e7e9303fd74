"""ZeroMQ on the daemon's side."""
