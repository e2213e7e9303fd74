"""SAM 2 as a streaming engine: the one place where torch lives."""
