"""The connections of one bound socket, known from its monitor: so that their number has a bound.

ZeroMQ itself takes as many as there are descriptors. It belongs to the socket's thread.
"""

import contextlib
import logging
import os
import socket as sockets
import time

import zmq
from zmq.utils.monitor import parse_monitor_message

from tracker.sockets.guard import Guard
from tracker.sockets.types import Socket

log = logging.getLogger(__name__)

REVOKED_S = 0.5  # between two looks at the list
NOBODY = -1  # the descriptor of a message that did not come over a connection


class Connections:
    """Descriptors of live connections, the oldest first. `limit` of them stay open."""

    def __init__(self, socket: Socket, limit: int, guard: Guard | None = None) -> None:
        self._socket = socket
        self._limit = limit
        self._guard = guard
        self._users: dict[int, str] = {}  # by descriptor: whose key it came with
        self._checked_s = 0.0
        self._endpoint = _own_address(socket)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._spoke: dict[int, bool] = {}  # by descriptor: whether a message ever came over it

    def __contains__(self, fd: int) -> bool:
        return fd in self._spoke

    def __len__(self) -> int:
        return len(self._spoke)

    @property
    def monitor(self) -> Socket:
        """To be polled together with the socket."""
        return self._monitor

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def spoke(self, fd: int, user: str | None = None) -> None:
        if fd in self._spoke:
            self._spoke[fd] = True
            if user is not None:
                self._users[fd] = user

    def update(self) -> list[int]:
        """Take note of who came and who went; returns the descriptors of those that went, and shuts what is over
        the limit: first those that never said anything, the oldest of them first, else the newest."""
        gone = self._came_and_went()
        for fd in self._revoked():
            self.shut(fd, "its key is not allowed any more")
            gone.append(fd)
        while len(self._spoke) > self._limit:
            silent = (fd for fd, spoke in self._spoke.items() if not spoke)
            fd = next(silent, next(reversed(self._spoke)))
            self.shut(fd, f"there are more than {self._limit} connections (limits.connections)")
            gone.append(fd)
        return gone

    def _came_and_went(self) -> list[int]:
        gone = []
        while self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())
            fd = int(event["value"])
            self._users.pop(fd, None)
            if self._spoke.pop(fd, None) is not None:
                gone.append(fd)
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._spoke[fd] = False
        return gone

    def _revoked(self) -> list[int]:
        if self._guard is None or time.monotonic() - self._checked_s < REVOKED_S:
            return []
        self._checked_s = time.monotonic()
        self._users = {fd: user for fd, user in self._users.items() if fd in self._spoke}
        return [fd for fd, user in self._users.items() if not self._guard.allows(user)]

    def shed(self) -> list[int]:
        """Shut the newer half, for want of memory; returns their descriptors."""
        newest = list(self._spoke)[len(self._spoke) // 2 :]
        for fd in newest:
            self.shut(fd, "the process needs more memory than limits.memory_mib")
        return newest

    def shut(self, fd: int, why: str) -> None:
        """End a connection; ZeroMQ closes its descriptor when it sees that."""
        if self._spoke.pop(fd, None) is None:
            return
        log.warning("%s: a connection is shut: %s", self._endpoint, why)
        with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(fd)) as connection:
            if connection.getsockname() == self._endpoint:  # the descriptor may be another file's by now
                connection.shutdown(sockets.SHUT_RDWR)


def descriptor_of(frame: zmq.Frame) -> int:
    """The descriptor of the connection that a received frame came over."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return NOBODY


def user_of(frame: zmq.Frame) -> str | None:
    """The public key that a received frame's connection was let in with; None without keys."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return None


def _own_address(socket: Socket) -> object:
    """What `getsockname` says on each of the socket's connections."""
    endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
    if endpoint.startswith("ipc://"):
        return endpoint.removeprefix("ipc://")
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return (host.strip("[]"), int(port)) if "[" not in host else (host.strip("[]"), int(port), 0, 0)
