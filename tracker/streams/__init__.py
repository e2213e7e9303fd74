"""Sources kept going, and the last seconds of each."""
