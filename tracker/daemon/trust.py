"""Whether others can write what the daemon goes by: whoever can, decides what it does."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


def foreign_writers(*paths: Path) -> Iterator[str]:
    """Each reason not to believe these files and folders, and what would be right; nothing of what is absent.

    Who can write a folder can replace what is in it, so name a file's folder as well.
    """
    for path in paths:
        yield from _writers(path)


def _writers(path: Path) -> Iterator[str]:
    try:
        status = path.stat()
    except OSError:
        return  # who needs it says so
    # In a folder such as /tmp nobody can replace what is another's.
    shared_but_safe = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()):
        yield f"{path} belongs to user {status.st_uid}, who can write it; chown it to root or to the daemon's user"
    if status.st_mode & stat.S_IWOTH and not shared_but_safe:
        yield f"{path} can be written by everybody; chmod o-w {path}"
    elif status.st_mode & stat.S_IWGRP and not shared_but_safe:
        log.warning("%s can be written by its group; chmod g-w it unless they may command the daemon", path)
