"""Folders of results that are not finished, beside those that are: each is its box's while that lives.

A box holds a lock in its folder, which the system lets go of when the box dies, however it dies. So a slow one
keeps its folder though another was faster, and what a dead one left is removed by whoever comes next.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PREFIX = ".unfinished-"
LOCK = "lock"


@contextmanager
def unfinished(parent: Path | None, number: int) -> Iterator[Path]:
    """A folder for a file's results, gone in the end; what is finished is moved out of it before."""
    folder, lock = _locked(parent, f"{PREFIX}{number}-")
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def tidy_up(results: Path, job: str = "*") -> None:
    """Remove what is nobody's, of one job or of all. What cannot be, or locked (a share without locks), stays."""
    with suppress(OSError):  # a share that is away
        for folder in results.glob(f"{job}/{PREFIX}*"):
            with suppress(OSError):
                _remove_if_nobodys(folder)


def _locked(parent: Path | None, prefix: str) -> tuple[Path, BinaryIO]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # somebody tidied up before it was locked
            lock = (folder / LOCK).open("xb")
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / LOCK).exists():
                return folder, lock
            lock.close()


def _remove_if_nobodys(folder: Path) -> None:
    """Raises OSError where its box lives."""
    try:
        lock = (folder / LOCK).open("r+b")
    except FileNotFoundError:  # its box died before it had one
        shutil.rmtree(folder)
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
