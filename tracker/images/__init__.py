"""Pixels: colour, scaling, pictures and films written."""
