"""Where a socket is bound: tells its connections from the process's other files, by their local address.

A descriptor that ZeroMQ has closed may be any other file's a moment later.
"""

import contextlib
import os
import socket as sockets
from collections.abc import Iterator

# A connection has the address that its peer chose, never the wildcard. By the wildcard as the kernel spells it: how
# the addresses begin that may be chosen. Of those the system lets nobody else listen at the same port.
WILDCARDS = {"0.0.0.0": "", "::": "", "::ffff:0.0.0.0": "::ffff:"}


class BoundAddress:
    """Of an endpoint as ZeroMQ says that it is bound (LAST_ENDPOINT): numbers, whatever the configuration names."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.is_tcp = endpoint.startswith("tcp://")
        self._family = sockets.AF_UNIX
        self._name: object = endpoint.removeprefix("ipc://")
        self._port = 0
        self._chosen: str | None = None  # how each connection's host begins, where a wildcard is bound
        if self.is_tcp:
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            numeric = sockets.AI_NUMERICHOST | sockets.AI_NUMERICSERV
            found = sockets.getaddrinfo(host.strip("[]"), port, type=sockets.SOCK_STREAM, flags=numeric)
            self._family, *_, address = found[0]
            self._name, self._port = _without_flow(address), int(port)
            self._chosen = WILDCARDS.get(str(address[0]))

    def __str__(self) -> str:
        return self._endpoint

    def accepted(self, file: sockets.socket) -> bool:
        """Whether it is a connection of the socket that is bound here. Raises OSError."""
        if file.family != self._family or file.getsockopt(sockets.SOL_SOCKET, sockets.SO_ACCEPTCONN):
            return False
        name = file.getsockname()
        if self._chosen is None:
            return bool(_without_flow(name) == self._name)
        return bool(name[1] == self._port and name[0].startswith(self._chosen))


@contextlib.contextmanager
def opened(fd: int) -> Iterator[sockets.socket]:
    """A socket by a descriptor of our own, so that it stays the same file while it is looked at. Raises OSError."""
    own = os.dup(fd)
    try:
        file = sockets.socket(fileno=own)
    except OSError:  # no socket
        os.close(own)
        raise
    with file:
        yield file


def _without_flow(name: object) -> object:
    """An IPv6 address without its flow, which belongs to packets; the scope stays: it says on which link."""
    return (*name[:2], *name[3:]) if isinstance(name, tuple) else name
