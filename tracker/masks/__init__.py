"""Masks as numbers: logits to boxes, outlines and run lengths, and back."""
