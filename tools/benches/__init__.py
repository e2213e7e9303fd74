"""What `tools/bench` measures: one file for each kind, and what they share."""
