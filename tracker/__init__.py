"""Follow objects in live video: a daemon around SAM 2, and the client library that talks to it."""

__version__ = "0.1.0"
