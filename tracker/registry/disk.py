"""The database of a state folder that may fail, vanish, fill up and come back."""

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from tracker.registry.database import Damaged, Database
from tracker.registry.folder import FolderLock, set_aside
from tracker.registry.rows import Saved

log = logging.getLogger(__name__)

FAILURES = (apsw.Error, OSError)
RETRY_S = 1.0


class Disk:
    """It belongs to one thread at a time. `on_failure` is called with a text when the folder cannot be written any
    more, with None when it can be again."""

    def __init__(self, folder: Path) -> None:
        self.on_failure: Callable[[str | None], None] | None = None
        self.failure: str | None = None  # why nothing reaches the folder now
        self.failures = 0  # attempts that did not go well
        self.database: Database | None = None
        self._folder = folder
        self._lock = FolderLock(folder)
        self._read = False  # what the folder held at the start is known
        self._retry_s = 0.0

    def open(self) -> Saved:
        """Lock the folder and read it, at the start. Raises ConfigError where another daemon has it; a disk that
        fails is only logged, and tried again later."""
        try:
            return self._opened(at_start=True)
        except FAILURES as error:
            self._fail(error)
            return Saved([], [])

    @property
    def is_due(self) -> bool:
        """Whether it failed, and it is time to try it again with all there is."""
        return self.failure is not None and time.monotonic() >= self._retry_s

    def put_off(self) -> None:
        """It is not due for a while: an attempt is under way, or has failed."""
        self._retry_s = time.monotonic() + RETRY_S

    def attempt(self, work: Callable[[Database], None], *, everything: bool = False) -> bool:
        """Whether it went well. `everything`: `work` writes all there is, so the folder may be another one now."""
        try:
            self._attempt(work, everything)
        except Exception as error:  # noqa: BLE001 - whatever it is, tracking goes on without being saved
            self._close()
            self._fail(error)
            self.failures += 1
            return False
        if self.failure is not None:
            log.warning("%s can be written again: everything is saved", self._folder)
            self.failure = None
            self._tell(None)
        return True

    def reopen(self) -> None:
        """Give back what a transaction that failed took of the disk."""
        try:
            self._opened()
        except Exception as error:  # noqa: BLE001 - as above
            self._close()
            self._fail(error)

    def close(self) -> None:
        """And let others have the folder."""
        self._close()
        self._lock.release()

    def _attempt(self, work: Callable[[Database], None], everything: bool) -> None:
        """On a full disk once more, when SQLite has given back its log."""
        if everything:
            self._opened()
        if self.database is None or not self._lock.still_there():
            raise FileNotFoundError(f"{self._folder} is gone")
        try:
            work(self.database)
        except FAILURES as error:
            if not _is_full(error):
                raise
            self._opened()
            work(self.database)

    def _opened(self, *, at_start: bool = False) -> Saved:
        """Open the database anew. One that is damaged, or that holds what the daemon has not begun with, is set
        aside."""
        self._close()
        if not self._lock.still_there():
            self._lock.acquire()
        for _ in range(2):
            try:
                self.database = Database(self._folder)
                saved = self.database.load()
                if not at_start and not self._read and (saved.streams or saved.objects):
                    raise Damaged("could not be read when the daemon started")
            except Damaged as error:
                self._close()
                log.info("%s: %s: %s", self._folder, error, error.__cause__)
                set_aside(self._folder, str(error))
            else:
                self._read = True
                return saved
        raise OSError("a fresh database is damaged at once")

    def _fail(self, error: Exception) -> None:
        is_news = self.failure is None
        self.failure = f"{type(error).__name__}: {error}"
        self.put_off()
        if is_news:
            log.error("%s cannot be written, so nothing is saved for now: %s", self._folder, self.failure)
            self._tell(self.failure)

    def _tell(self, failure: str | None) -> None:
        if self.on_failure is not None:
            self.on_failure(failure)

    def _close(self) -> None:
        if self.database is not None:
            self.database.close()
            self.database = None


def _is_full(error: BaseException | None) -> bool:
    """Whether it is for want of room. A transaction that has ended itself then fails once more when it is ended."""
    if error is None:
        return False
    no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return no_room or isinstance(error, apsw.FullError) or _is_full(error.__context__)
