"""Every way to bind a TCP socket that this machine can reach, and how a program here reaches it."""

import socket
from contextlib import suppress

import pytest


def _has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


IPV6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")
BINDS = [
    "tcp://127.0.0.1:*",
    "tcp://0.0.0.0:*",
    "tcp://*:*",
    "tcp://lo:*",
    pytest.param("tcp://[::1]:*", marks=IPV6),
    pytest.param("tcp://[::]:*", marks=IPV6),
    pytest.param("tcp://[0.0.0.0]:*", marks=IPV6),  # IPv4 alone, by IPv6 sockets
]


def reached(endpoint: str, *, by_ipv4: bool = False) -> str:
    """Where a bound endpoint is reached from here: by loopback, never over a network."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if host == "[::]" and not by_ipv4:
        return f"tcp://[::1]:{port}"
    if host in ("0.0.0.0", "[::]", "[::ffff:0.0.0.0]"):
        return f"tcp://127.0.0.1:{port}"
    return endpoint


def address_of(endpoint: str) -> tuple[str, int]:
    """The same for a socket of the system's own."""
    host, _, port = reached(endpoint).removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)
