"""Which box has which stream: boxes share out the wanted streams by NATS JetStream. A client of the daemon like any
other; the daemon knows nothing of it. docs/fleet.md tells how it works."""
