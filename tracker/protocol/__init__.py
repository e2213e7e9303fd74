"""What is said on the wire. Knows no socket."""
