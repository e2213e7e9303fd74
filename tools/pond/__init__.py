"""The demo: a pond with fish, rendered with its truth, followed by the real daemon."""
