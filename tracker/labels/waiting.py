"""What waits for CLIP's thread: objects to be labelled, and pictures and texts that others want as vectors."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker.images.types import Frame
from tracker.masks.types import F32, U8, ObjectMask

if TYPE_CHECKING:
    from tracker.tracking.state import TrackedObject

OBJECTS = 16  # each holds on to its frame
VECTORS = 64  # each holds a crop, or a text


@dataclass(frozen=True, slots=True, eq=False)
class LabelTask:
    """An object as it was on one frame, and what it may be."""

    object: TrackedObject
    revision: int
    frame: Frame
    mask: ObjectMask
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Of length 1, float32 [c]; only those of one model can be compared."""

    model: str
    vector_c: F32


@dataclass(frozen=True, slots=True, eq=False)
class VectorTask:
    """A crop, uint8 [side, side, 3], or a text that is wanted as a vector.

    `then` is called in CLIP's thread; with None where it could not be had.
    """

    what: U8 | str
    then: Callable[[Vector | None], None]


class Waiting:
    """Putting never blocks. Of an object the newest task waits, and the oldest of all goes where there is no more
    room; a vector for which there is no room is refused, since somebody waits for it."""

    def __init__(self, objects: int = OBJECTS, vectors: int = VECTORS) -> None:
        self._objects_room = objects
        self._vectors_room = vectors
        self._objects: OrderedDict[TrackedObject, LabelTask] = OrderedDict()
        self._vectors: deque[VectorTask] = deque()
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

    def take(self, most: int) -> tuple[list[VectorTask], list[LabelTask]]:
        """The oldest of both kinds, at most so many of each, as soon as there are any; none: it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._vectors or self._objects or self._closed)
            if self._closed:
                return [], []
            vectors = [self._vectors.popleft() for _ in range(min(most, len(self._vectors)))]
            objects = [self._objects.popitem(last=False)[1] for _ in range(min(most, len(self._objects)))]
            return vectors, objects

    def close(self) -> list[VectorTask]:
        """Nothing is taken from now on. Returns the vectors that nobody will make."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            left = list(self._vectors)
            self._vectors.clear()
            return left
