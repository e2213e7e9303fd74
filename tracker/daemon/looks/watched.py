"""Looks that are waited for: told once for each object that comes near enough."""

import threading
from collections import OrderedDict

import numpy as np

from tracker.daemon.events import Events
from tracker.daemon.looks.look import Key
from tracker.registry.rows import KeepWatchedLooks, LookChange, PutWatchedLook
from tracker.registry.similar import Look, WatchedLook
from tracker.tracking.state import TrackedObject

ALARMS = 4096  # that were raised, and are not raised again


class WatchedLooks:
    """The list may be asked for and changed by any thread; `compare` belongs to the looks' thread."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._watched: dict[int, WatchedLook] = {}
        self._last_id = 0
        self._alarmed: OrderedDict[tuple[int, Key], None] = OrderedDict()

    def all(self) -> list[WatchedLook]:
        with self._lock:
            return list(self._watched.values())

    def add(self, watched: WatchedLook) -> None:
        with self._lock:
            self._watched[watched.id] = watched
            self._last_id = max(self._last_id, watched.id)

    def next_id(self) -> int:
        """No number is given twice: what one that is gone has told of must not keep a new one silent."""
        with self._lock:
            self._last_id += 1
            return self._last_id

    def remove(self, watched_id: int) -> WatchedLook | None:
        with self._lock:
            return self._watched.pop(watched_id, None)

    def rows(self) -> list[LookChange]:
        """All of them, for a disk that works again."""
        with self._lock:
            kept = KeepWatchedLooks(list(self._watched), self._last_id)
            return [kept, *map(PutWatchedLook, self._watched.values())]

    def compare(self, look: Look, obj: TrackedObject) -> None:
        """Tell where a look is like what is waited for."""
        key = look.stream, look.object
        for watched in self.all():
            if (watched.kind, watched.model) != (look.kind, look.model) or (watched.id, key) in self._alarmed:
                continue
            score = float(look.vector_c @ np.frombuffer(watched.vector, np.float32))
            if score >= watched.threshold:
                self._remember(watched.id, key)
                self._tell(watched, look, score, obj)

    def _remember(self, watched_id: int, key: Key) -> None:
        self._alarmed[watched_id, key] = None
        while len(self._alarmed) > ALARMS:
            self._alarmed.popitem(last=False)

    def _tell(self, watched: WatchedLook, look: Look, score: float, obj: TrackedObject) -> None:
        self._events.of_stream(
            obj.stream.source,
            "looks_like",
            look.frame,
            object=look.object,
            label=look.label,
            watch=watched.id,
            score=round(score, 4),
            message=watched.name,
        )
