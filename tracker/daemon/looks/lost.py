"""Objects that were lost of late, stream by stream: who an object that is added may be."""

import threading
import time
from collections import OrderedDict

from tracker.daemon.looks.look import Key
from tracker.masks.types import F32
from tracker.protocol.replies import Maybe

RECENT = 64  # lost objects of a stream that may come back
RECENT_S = 600.0

_Lost = OrderedDict[int, tuple[float, list[F32]]]  # since when (monotonic), and what it looked like


class RecentlyLost:
    """Written by the looks' thread, read by the main loop."""

    def __init__(self, alike: float) -> None:
        self._alike = alike
        self._lock = threading.Lock()
        self._of_stream: dict[str, _Lost] = {}

    def put(self, key: Key, vectors: list[F32]) -> None:
        stream, object_id = key
        now_s = time.monotonic()
        with self._lock:
            lost = self._of_stream.setdefault(stream, OrderedDict())
            lost[object_id] = now_s, vectors
            while len(lost) > RECENT:
                lost.popitem(last=False)
            self._forget(now_s)

    def found(self, key: Key) -> None:
        stream, object_id = key
        with self._lock:
            self._of_stream.get(stream, OrderedDict()).pop(object_id, None)

    def any_of(self, stream: str) -> bool:
        with self._lock:
            return bool(self._of_stream.get(stream))

    def maybe(self, stream: str, vector_c: F32) -> list[Maybe]:
        """Objects of the stream that were lost of late and look like this, best first."""
        with self._lock:
            self._forget(time.monotonic())
            lost = dict(self._of_stream.get(stream, {}))
        scores = {
            object_id: max(float(vector_c @ other_c) for other_c in vectors)
            for object_id, (_, vectors) in lost.items()
            if vectors
        }
        found = [(score, object_id) for object_id, score in scores.items() if score >= self._alike]
        found.sort(reverse=True)
        return [Maybe(object=object_id, score=round(score, 4)) for score, object_id in found]

    def _forget(self, now_s: float) -> None:
        """Drop what was lost too long ago; under the lock."""
        for stream, lost in list(self._of_stream.items()):
            for object_id, (since_s, _) in list(lost.items()):
                if now_s - since_s >= RECENT_S:
                    del lost[object_id]
            if not lost:
                del self._of_stream[stream]
