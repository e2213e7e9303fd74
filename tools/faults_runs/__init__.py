"""Hostile peers against a real daemon: what they cost it, and whether a good client notices."""
