"""Reading what is kept, beside the store's own connection."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from tracker.errors import Unavailable
from tracker.registry.folder import DATABASE
from tracker.registry.similar import Look, LookHit, LookQuery, Looks, WatchedLook, opened_for_reading
from tracker.registry.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")


class LookReader:
    """It belongs to the looks' thread. Nothing is found where nothing is kept or the disk fails."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._open: tuple[apsw.Connection, Looks] | None = None
        self._file: os.stat_result | None = None  # that it is open on

    def of_object(self, kind: str, model: str, stream: str, object_id: int) -> list[Look]:
        return self._read(lambda looks: looks.of_object(kind, model, stream, object_id)) or []

    def watched(self) -> list[WatchedLook]:
        return self._read(lambda looks: looks.watched()) or []

    def find(self, query: LookQuery) -> tuple[list[LookHit], int]:
        """Hits, and how many looks are another model's. Raises Unavailable."""
        if self._store is None:
            raise Unavailable(
                "no looks are kept: the daemon has no folder for them. Name one in its configuration file "
                "(persist.dir) and start it again"
            )
        found = self._read(lambda looks: (looks.find(query), looks.left_out(query.kind, query.model)))
        if found is None:
            raise Unavailable("the looks cannot be read now; the daemon's log says why")
        return found

    def close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def _read(self, work: Callable[[Looks], T]) -> T | None:
        if self._store is None or self._store.failed:
            self.close()
            return None
        try:
            return work(self._looks(self._store.folder / DATABASE))
        except (apsw.Error, OSError) as error:
            log.warning("looks cannot be read: %s", error)
            self.close()
            return None

    def _looks(self, path: Path) -> Looks:
        """Of the file that is there now: the folder may have been taken away and have come back. Raises apsw.Error
        and OSError."""
        there = path.stat()
        if self._file is None or not os.path.samestat(there, self._file):
            self.close()
        if self._open is None:
            self._open, self._file = opened_for_reading(str(path)), there
        return self._open[1]
