"""Decisions about tracking, in plain Python without tensors: which objects, on which frame next."""
