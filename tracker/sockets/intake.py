"""How far each TCP connection of a bound socket is ahead of what was read from it, by the kernel's own count.

ZeroMQ reads without a bound, and has to: where it stops for want of room and the peer hangs up, a ping among what
is left ends the process (an assertion in libzmq 4.3.5). So whoever sends much more than is read is shut.
"""

import contextlib
import logging
import os
import socket as sockets
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

log = logging.getLogger(__name__)

RECEIVED_AT, SEGMENTS_AT = (
    128,
    152,
)  # of `tcpi_bytes_received` and `tcpi_data_segs_in` in the kernel's struct tcp_info
SEGMENT_BYTES = 8192  # that one may keep ZeroMQ from freeing: it reads into buffers of this size
FRAMING = 1.2  # bytes on the wire for each byte that was read, at most; with keys some more for each part
SAY_AGAIN_S = 1.0  # without a flood; until then one that goes on is not logged again
UNCOUNTED_BYTES_PER_S = 1024.0  # heartbeats, which nobody reads


@dataclass(slots=True)
class _Ahead:
    """One connection at the last look."""

    received: int  # with what ZeroMQ needs to hold it
    taken: int
    nbytes: float  # sent and not read
    looked_s: float


class Intake:
    """Counts for one socket, whose address on each connection is `address`. `max_bytes`: then a peer is shut.

    `opened`, `closed` and `took` are for the socket's thread; `look` may be called by another one, so that it works
    where the socket's thread has its hands full.
    """

    def __init__(self, address: object, max_bytes: int) -> None:
        self._address = address
        self._max_bytes = max_bytes
        self._taken: dict[int, int] = {}  # by descriptor
        self._ahead: dict[int, _Ahead] = {}  # by the connection's inode, which is never another's while it lives
        self._others: set[int] = set()  # inodes of sockets that are not this one's
        self.flooded_s = float("-inf")  # when somebody was shut for the last time

    def opened(self, fd: int) -> None:
        self._taken[fd] = 0

    def closed(self, fd: int) -> None:
        self._taken.pop(fd, None)

    def took(self, fd: int, nbytes: int, parts: int) -> None:
        if fd in self._taken:
            self._taken[fd] += round(nbytes * FRAMING) + 64 * parts + SEGMENT_BYTES

    def look(self) -> None:
        """Shut whoever is too far ahead."""
        if not isinstance(self._address, tuple):
            return  # who may use a socket in the file system, its mode says
        now_s, before, self._ahead = time.monotonic(), self._ahead, {}
        others = set()
        for fd, inode in _sockets():
            if inode in self._others or not self._is_ours(fd):
                others.add(inode)
                continue
            ahead = _advanced(before.get(inode), _received(fd), self._taken.get(fd, 0), now_s)
            self._ahead[inode] = ahead
            if ahead.nbytes > self._max_bytes:
                self._shut(fd, inode, ahead)
        self._others = others

    def _is_ours(self, fd: int) -> bool:
        with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(fd)) as connection:
            if connection.getsockname() != self._address:
                return False
            return not connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_ACCEPTCONN)
        return False

    def _shut(self, fd: int, inode: int, ahead: _Ahead) -> None:
        with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(fd)) as connection:
            if os.fstat(connection.fileno()).st_ino == inode:
                peer = connection.getpeername()
                connection.shutdown(sockets.SHUT_RDWR)
                again, self.flooded_s = self.flooded_s, time.monotonic()
                text = "%s: the connection of %s is shut: it sends faster than it is read, and is %d kB ahead"
                level = logging.WARNING if self.flooded_s - again > SAY_AGAIN_S else logging.DEBUG
                log.log(level, text, self._address, peer, ahead.nbytes / 1000)


def _advanced(before: _Ahead | None, received: int, taken: int, now_s: float) -> _Ahead:
    if before is None:
        return _Ahead(received, taken, max(0.0, received - taken), now_s)
    came = received - before.received - UNCOUNTED_BYTES_PER_S * (now_s - before.looked_s)
    went = max(0, taken - before.taken)
    return _Ahead(received, taken, max(0.0, before.nbytes + came - went), now_s)


def _sockets() -> Iterator[tuple[int, int]]:
    """Descriptor and inode of every open socket of this process."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - many times a second
            with contextlib.suppress(OSError):
                status = os.fstat(int(name))
                if stat.S_ISSOCK(status.st_mode):
                    yield int(name), status.st_ino


def _received(fd: int) -> int:
    with contextlib.suppress(OSError, struct.error), sockets.socket(fileno=os.dup(fd)) as connection:
        info = connection.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, SEGMENTS_AT + 4)
        nbytes, segments = (
            struct.unpack_from("=Q", info, RECEIVED_AT)[0],
            struct.unpack_from("=I", info, SEGMENTS_AT)[0],
        )
        return int(nbytes + segments * SEGMENT_BYTES)
    return 0
