"""The path of an ipc socket: claimed by a lock beside it, and taken again where somebody removes it."""

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import zmq

from tracker.sockets.types import Socket

log = logging.getLogger(__name__)

IPC_UMASK = 0o117  # sockets of mode 0660
LOOK_S = 1.0  # between two looks whether it is there still


class SocketPath:
    """Without the lock, a second bind would silently take the path from the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._fd: int | None = None  # of the lock
        self._bound: os.stat_result | None = None  # the socket's own file
        self._look_at_s = 0.0
        self._said: str | None = None  # why it cannot be bound again

    def bind(self, socket: Socket) -> None:
        """Claim the path, and bind there. Raises OSError or ZMQError."""
        if self._path.exists() and not self._path.is_socket():
            raise FileExistsError(errno.EEXIST, "a file that is no socket stands there")
        if not self._holds_lock():
            self._close_lock()
            self._fd = _locked(self._lock)
        with _umask(IPC_UMASK):
            socket.bind(f"ipc://{self._path}")
        self._bound = self._path.lstat()

    def look(self, socket: Socket) -> None:
        """Bind it again where its file was removed, in the socket's thread: nobody could connect, and nothing would
        say so. Who is connected stays so."""
        if time.monotonic() < self._look_at_s:
            return
        self._look_at_s = time.monotonic() + LOOK_S
        if self._is_there():
            return
        try:
            self._bind_again(socket)
        except (OSError, zmq.ZMQError) as error:
            self._say(f"its file was removed, and it cannot be bound again: {error.strerror}")
        else:
            self._said = None
            log.warning("%s: its file was removed; it is bound again", self._path)

    def release(self) -> None:
        """Let others have the path. What another daemon has there by now stays."""
        if self._holds_lock():
            self._path.unlink(missing_ok=True)
            self._lock.unlink(missing_ok=True)
        self._close_lock()

    def _bind_again(self, socket: Socket) -> None:
        """ZeroMQ removes whatever stands at a path that it leaves: it leaves this one while nothing does."""
        if os.path.lexists(self._path) and not self._holds_lock():
            raise FileExistsError(errno.EADDRINUSE, "another daemon is serving it")
        if self._bound is not None:
            socket.unbind(f"ipc://{self._path}")
            self._bound = None
        self.bind(socket)

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return self._bound is not None and os.path.samestat(self._bound, self._path.lstat())
        return False

    def _holds_lock(self) -> bool:
        """Whether the lock is on the file that is there now."""
        with contextlib.suppress(OSError):
            return self._fd is not None and os.path.samestat(os.fstat(self._fd), self._lock.lstat())
        return False

    def _close_lock(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _say(self, text: str) -> None:
        """Log it once."""
        if text != self._said:
            log.error("%s: %s", self._path, text)
            self._said = text


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _locked(path: Path) -> int:
    """The descriptor of a lock file that is held. A link is not followed and nothing is truncated: in a folder that
    others can write to, the name may lead to any file."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FileExistsError(errno.EEXIST, f"{path} is no lock file")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held the lock before may have removed the file just now: then this is a lock on nothing.
            if os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False)):
                return fd
            os.close(fd)
        except BlockingIOError:
            os.close(fd)
            raise BlockingIOError(errno.EADDRINUSE, "another daemon is serving it") from None
        except FileNotFoundError:
            os.close(fd)
        except OSError:
            os.close(fd)
            raise
