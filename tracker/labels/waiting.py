"""What waits for CLIP's thread: objects to be labelled, and pictures and texts that others want as vectors.

Some of it is for somebody who waits: texts that are searched for, objects that nobody has guessed at yet. The rest
has time, and is given out only while the thread is not resting.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker.images.types import Frame
from tracker.masks.types import F32, U8, ObjectMask

if TYPE_CHECKING:
    from tracker.tracking.state import TrackedObject

OBJECTS = 16  # each holds on to its frame
VECTORS = 64  # each holds a text
LOOKS = 64  # each holds a crop


@dataclass(frozen=True, slots=True, eq=False)
class LabelTask:
    """An object as it was on one frame, and what it may be."""

    object: TrackedObject
    revision: int
    frame: Frame
    mask: ObjectMask
    texts: tuple[str, ...]
    has_time: bool = False  # it was guessed at before


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Of length 1, float32 [c]; only those of one model can be compared."""

    model: str
    vector_c: F32


@dataclass(frozen=True, slots=True, eq=False)
class VectorTask:
    """A crop, uint8 [side, side, 3], or a text that is wanted as a vector.

    `then` is called in CLIP's thread; with None, in any thread, where it could not be had.
    """

    what: U8 | str
    then: Callable[[Vector | None], None]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the thread does next; nothing at all: the end."""

    texts: list[VectorTask]
    looks: list[VectorTask]
    objects: list[LabelTask]

    def __bool__(self) -> bool:
        return bool(self.texts or self.looks or self.objects)


class Waiting:
    """Putting never blocks. Of an object the newest task waits, and the newest look in the place of an older one;
    the oldest task of all goes where there is no more room; a text or a look for which there is none is refused."""

    def __init__(self, objects: int = OBJECTS, vectors: int = VECTORS, looks: int = LOOKS) -> None:
        self._objects_room = objects
        self._vectors_room = vectors
        self._looks_room = looks
        self._objects: OrderedDict[TrackedObject, LabelTask] = OrderedDict()
        self._vectors: deque[VectorTask] = deque()
        self._looks: OrderedDict[Hashable, VectorTask] = OrderedDict()
        self._rested_at_s = 0.0  # time.monotonic()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, task: LabelTask) -> None:
        with self._changed:
            self._objects.pop(task.object, None)
            self._objects[task.object] = task
            if len(self._objects) > self._objects_room:
                self._objects.popitem(last=False)
            self._changed.notify()

    def put_vector(self, task: VectorTask) -> bool:
        """Whether there was room."""
        with self._changed:
            if self._closed or len(self._vectors) >= self._vectors_room:
                return False
            self._vectors.append(task)
            self._changed.notify()
        return True

    def put_look(self, key: Hashable, task: VectorTask) -> bool:
        """Whether there was room. A look of the same key that waits gives way, and its `then` is told so."""
        with self._changed:
            older = self._looks.get(key)
            if self._closed or (older is None and len(self._looks) >= self._looks_room):
                return False
            self._looks[key] = task  # in the place of the older one, so that each has its turn
            self._changed.notify()
        if older is not None:
            older.then(None)
        return True

    def rest(self, seconds: float) -> None:
        """Give out nothing that has time so long, after the rest that goes on already."""
        self._rested_at_s = max(self._rested_at_s, time.monotonic()) + seconds

    def take(self, most: int) -> Taken:
        """The oldest of each kind, at most so many of each, as soon as there are any; none: it was closed."""
        with self._changed:
            while not self._closed:
                rest_s = self._rested_at_s - time.monotonic()
                if taken := self._take_now(most, resting=rest_s > 0):
                    return taken
                self._changed.wait(rest_s if rest_s > 0 else None)
            return Taken([], [], [])

    def close(self) -> list[VectorTask]:
        """Nothing is taken from now on. Returns the vectors that nobody will make."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            left = [*self._vectors, *self._looks.values()]
            self._vectors.clear()
            self._looks.clear()
            return left

    def _take_now(self, most: int, *, resting: bool) -> Taken:
        texts = [self._vectors.popleft() for _ in range(min(most, len(self._vectors)))]
        looks = [] if resting else list(self._looks)[:most]
        objects = [obj for obj, task in self._objects.items() if not (resting and task.has_time)][:most]
        return Taken(texts, [self._looks.pop(key) for key in looks], [self._objects.pop(obj) for obj in objects])
