"""The engine over files."""
