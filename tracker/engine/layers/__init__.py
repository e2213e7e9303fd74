"""Parts of SAM 2's network laid out for many objects at once."""
