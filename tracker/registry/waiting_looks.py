"""Looks that wait to be written, in the time that requests leave."""

import logging
import threading
import time
from collections import OrderedDict

from tracker.registry.disk import FAILURES, RETRY_S, Disk
from tracker.registry.rows import PutLook
from tracker.registry.similar import LookKey

log = logging.getLogger(__name__)

MAX_LOOKS = 2048  # not written yet, also while the disk fails; beyond, the oldest are lost
LOOKS = 32  # of one transaction: requests wait for it


class WaitingLooks:
    """The newest look of each slot. They have transactions of their own: no request fails for want of room for a
    look, and those that find none wait."""

    def __init__(self, disk: Disk) -> None:
        self.failures = 0  # transactions that did not go well
        self._disk = disk
        self._failure: str | None = None  # of the last ones: logged once
        self._retry_s = 0.0
        self._lock = threading.Lock()  # of what waits
        self._looks: OrderedDict[LookKey, PutLook] = OrderedDict()

    def put(self, change: PutLook) -> None:
        """From any thread. It takes the place of the one that waits for its slot."""
        with self._lock:
            self._looks[change.look.key] = change
            while len(self._looks) > MAX_LOOKS:
                self._looks.popitem(last=False)

    @property
    def is_due(self) -> bool:
        """Whether there is something to write, and a disk to write it on."""
        return bool(self._looks) and self._disk.failure is None and time.monotonic() >= self._retry_s

    def write(self) -> None:
        """Some of those that are due."""
        database = self._disk.database
        if database is None or not self.is_due:
            return
        with self._lock:
            looks = list(self._looks.values())[:LOOKS]
        try:
            # Without anything of others in the log, it can be given back whatever becomes of this.
            database.empty_log()
            database.apply(list(looks), [])
        except FAILURES as error:
            self._put_off(error)
        except Exception as error:  # noqa: BLE001 - what no disk is to blame for fails each time
            log.warning("%d looks are dropped: %s: %s", len(looks), type(error).__name__, error)
            self.failures += 1
            self._forget(looks)
        else:
            self._failure = None
            self._forget(looks)

    def _put_off(self, error: Exception) -> None:
        """They could not be written; what their transaction took of the disk is given back."""
        text = f"{type(error).__name__}: {error}"
        if text != self._failure:
            log.warning("looks cannot be kept for now: %s", text)
        self._failure = text
        self._retry_s = time.monotonic() + RETRY_S
        self.failures += 1
        self._disk.reopen()

    def _forget(self, looks: list[PutLook]) -> None:
        """They are written; what took a look's place meanwhile is not."""
        with self._lock:
            for change in looks:
                if self._looks.get(change.look.key) is change:
                    del self._looks[change.look.key]
