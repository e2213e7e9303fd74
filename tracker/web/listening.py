"""The address that the page listens on."""

import socket

from tracker.errors import ConfigError
from tracker.web.access import endpoint_of


def listening(endpoint: str) -> socket.socket:
    """Raises ConfigError where nobody can listen there, as where somebody else does."""
    host, port = endpoint_of(endpoint)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        why, *_ = str(error.strerror).split(" (")  # which says the address once more
        raise ConfigError([f"web.endpoint: cannot listen on {host}:{port}: {why}"]) from None
