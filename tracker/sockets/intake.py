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
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tracker.sockets.bound_address import BoundAddress, opened

log = logging.getLogger(__name__)

RECEIVED_AT = 128  # of `tcpi_bytes_received` in the kernel's struct tcp_info
PART_BYTES = 160  # that ZeroMQ needs to hold a part, beside its own
FRAMING_BYTES, SEALED_FRAMING_BYTES = 9, 48  # on the wire for each part beside its own bytes, at most; with keys
SAY_AGAIN_S = 1.0  # without a flood; until then one that goes on is not logged again
# While more than `max_bytes` are left of connections that are gone, a new one may be so far ahead; with so many
# times more left none is let in. Else whoever connects again whenever it is shut leaves more than is read.
MAX_NEW_BYTES, MOST_LEFT = 64 * 1024, 8
UNCOUNTED_BYTES_PER_S = 1024.0  # heartbeats, which nobody reads


@dataclass(frozen=True, slots=True)
class _Taken:
    """What was read of one connection."""

    nbytes: int = 0  # on the wire
    parts: int = 0


@dataclass(slots=True)
class _Ahead:
    """One connection at the last look, in bytes on the wire."""

    received: int
    taken: _Taken
    unread: float
    weight: float  # bytes that ZeroMQ needs to hold one of them
    looked_s: float
    is_new: bool = True  # it came while much was left of others

    @property
    def nbytes(self) -> float:
        return self.unread * self.weight


class Intake:
    """Counts for one socket, which is bound at `address`. `max_bytes`: then a peer is shut.

    `opened`, `closed`, `took…` are for the socket's thread; `look` may be called by another one, so
    that it works where the socket's thread has its hands full.
    """

    def __init__(self, address: BoundAddress, max_bytes: int, *, sealed: bool = False) -> None:
        """`sealed`: with keys, which make messages longer on the wire."""
        self._address = address
        self._max_bytes = max_bytes
        self._framing_bytes = SEALED_FRAMING_BYTES if sealed else FRAMING_BYTES
        self._taken: dict[int, _Taken] = {}  # by descriptor; replaced whole
        # By the connection's inode, which is never another's while it lives; replaced whole.
        self._ahead: dict[int, _Ahead] = {}
        self._others: set[int] = set()  # inodes of sockets that are not this one's
        self._counted: set[int] = set()  # inodes of those that are shut, and whose rest counts as left already
        self._left = 0.0  # bytes of connections that are gone, which ZeroMQ holds until they are read
        self._counting_left = threading.Lock()
        self.is_caught_up = False  # nothing complete waits to be read
        self.flooded_s = float("-inf")  # when somebody was shut for the last time

    @property
    def is_crowded(self) -> bool:
        """Whether so much is left of connections that are gone that nobody new is let in."""
        return self._left > self._max_bytes * MOST_LEFT

    def opened(self, fd: int) -> None:
        self._taken[fd] = _Taken()

    def closed(self, fd: int) -> None:
        self._taken.pop(fd, None)

    def took(self, fd: int, nbytes: int, parts: int) -> None:
        self.is_caught_up = False
        taken = self._taken.get(fd)
        if taken is not None:
            on_wire = nbytes + self._framing_bytes * parts
            self._taken[fd] = _Taken(taken.nbytes + on_wire, taken.parts + parts)

    def took_of_gone(self, nbytes: int, parts: int) -> None:
        """A message was read whose connection is gone."""
        self.is_caught_up = False
        with self._counting_left:
            self._left = max(0.0, self._left - nbytes - (self._framing_bytes + PART_BYTES) * parts)

    def took_all(self) -> None:
        """Nothing waits to be read; what ended in the middle of a message never will."""
        self.is_caught_up = True
        with self._counting_left:
            self._left = 0.0

    def look(self) -> None:
        """Shut whoever is too far ahead."""
        if not self._address.is_tcp:
            return  # who may use a socket in the file system, its mode says
        now_s, before, now = time.monotonic(), self._ahead, dict[int, _Ahead]()
        others = set()
        for fd, inode in _sockets():
            if inode in self._others or not self._is_ours(fd):
                others.add(inode)
                continue
            now[inode] = ahead = self._advanced(before.get(inode), fd, now_s)
            ahead.is_new = (inode not in before or before[inode].is_new) and self._left > self._max_bytes
            if ahead.nbytes > (MAX_NEW_BYTES if ahead.is_new else self._max_bytes):
                self._shut(fd, inode, ahead)
        self._others, self._ahead = others, now
        gone = before.keys() - now.keys()
        self.leave(sum(before[inode].nbytes for inode in gone - self._counted))
        self._counted -= gone
        self._counted &= before.keys() | now.keys()  # one may come and be shut between two looks

    def shutting(self, fd: int) -> None:
        """A connection is about to be shut: what it sent and nobody read is left. For the socket's thread."""
        with contextlib.suppress(OSError):
            inode = os.fstat(fd).st_ino
            ahead = self._advanced(self._ahead.get(inode), fd, time.monotonic())
            self._counted.add(inode)
            self.leave(ahead.nbytes)

    def _advanced(self, before: _Ahead | None, fd: int, now_s: float) -> _Ahead:
        """Where nothing complete waits, what is unread is one message that is still coming. It may be a single
        large part over a slow link, so it does not weigh as much as the small ones before it."""
        ahead = _advanced(before, _received(fd), self._taken.get(fd, _Taken()), now_s)
        if self.is_caught_up:
            ahead.weight = 1.0
        return ahead

    def leave(self, nbytes: float) -> None:
        """Connections have gone of which so much is not read."""
        if nbytes:
            with self._counting_left:
                self._left += nbytes

    def _is_ours(self, fd: int) -> bool:
        with contextlib.suppress(OSError), opened(fd) as file:
            return self._address.accepted(file)
        return False

    def _shut(self, fd: int, inode: int, ahead: _Ahead) -> None:
        with contextlib.suppress(OSError), opened(fd) as connection:
            if os.fstat(connection.fileno()).st_ino == inode:
                peer = connection.getpeername()
                connection.shutdown(sockets.SHUT_RDWR)
                again, self.flooded_s = self.flooded_s, time.monotonic()
                text = "%s: the connection of %s is shut: it sends faster than it is read, and is %d kB ahead"
                level = logging.WARNING if self.flooded_s - again > SAY_AGAIN_S else logging.DEBUG
                log.log(level, text, self._address, peer, ahead.nbytes / 1000)


def _advanced(before: _Ahead | None, received: int, taken: _Taken, now_s: float) -> _Ahead:
    """What is unread is taken to be in parts as large as those that were read last."""
    if before is None:
        before = _Ahead(0, _Taken(), 0.0, 1.0, now_s)
    came = received - before.received - UNCOUNTED_BYTES_PER_S * (now_s - before.looked_s)
    went = max(0, taken.nbytes - before.taken.nbytes)
    parts = taken.parts - before.taken.parts
    weight = 1 + PART_BYTES * parts / went if went else before.weight
    return _Ahead(received, taken, max(0.0, before.unread + came - went), weight, now_s)


def _sockets() -> Iterator[tuple[int, int]]:
    """Descriptor and inode of every open socket of this process."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - many times a second
            with contextlib.suppress(OSError):
                status = os.fstat(int(name))
                if stat.S_ISSOCK(status.st_mode):
                    yield int(name), status.st_ino


def _received(fd: int) -> int:
    """Bytes that came over a connection so far."""
    with contextlib.suppress(OSError, struct.error), opened(fd) as connection:
        info = connection.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, RECEIVED_AT + 8)
        return int(struct.unpack_from("=Q", info, RECEIVED_AT)[0])
    return 0
