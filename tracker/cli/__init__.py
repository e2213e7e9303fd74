"""The two commands: `trackerd` (the daemon, and work on files) and `trackctl` (a client)."""
