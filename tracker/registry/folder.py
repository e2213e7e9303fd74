"""The state folder: one daemon's alone, and what can not be read in it is set aside."""

import contextlib
import fcntl
import logging
import os
import stat
import time
from pathlib import Path

from tracker.errors import ConfigError

log = logging.getLogger(__name__)

DATABASE, MEMORIES, LOCK = "state.db", "memories", "lock"


class FolderLock:
    """Held from before the model is loaded until the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None

    def acquire(self) -> None:
        """Make the folder where it is absent, and lock it. Raises ConfigError where another daemon has it, OSError
        where it cannot be written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise ConfigError(
                [f"persist.dir: {self._folder} is in use by another daemon; give each its own"]
            ) from None
        self.release()
        self._fd = fd

    def still_there(self) -> bool:
        """Whether the lock is on the folder that the path leads to now: it may have vanished and come back."""
        if self._fd is None:
            return False
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._fd), (self._folder / LOCK).lstat())
        return False

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def set_aside(folder: Path, why: str) -> Path:
    """Move state that cannot be used out of the way, where people find it. Raises OSError."""
    aside = _fresh_name(folder)
    aside.mkdir(mode=0o700)
    for part in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", MEMORIES):
        path = folder / part
        if os.path.lexists(path):
            path.rename(aside / part)
    sync_folder(folder)
    log.warning("the state in %s %s: it is set aside in %s, and the daemon begins afresh", folder, why, aside.name)
    return aside


def _fresh_name(folder: Path) -> Path:
    """Named after this second; with a number where there is one of it already."""
    name = time.strftime("set-aside-%Y%m%dT%H%M%SZ", time.gmtime())
    numbered = (folder / f"{name}-{k}" for k in range(1, 10_000))
    return next(path for path in (folder / name, *numbered) if not path.exists())


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises OSError, also for a pipe or a device, which would be waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no file")
        return file.read()


def write_synced(path: Path, data: bytes) -> None:
    """Write aside, sync, rename: the name is there with all of its bytes or not at all."""
    aside = path.with_name(f".{path.name}.new")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        aside.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
