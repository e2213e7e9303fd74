"""What the daemon knows of each stream and each object beside pictures and tensors. Plain bookkeeping, changed only
by the engine thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from tracker.errors import AlreadyExists, UnknownObject, UnknownStream
from tracker.protocol.fields import MAX_OBJECT
from tracker.protocol.replies import Guess
from tracker.tracking.ids import UsedIds
from tracker.types import Frame, ObjectMask

if TYPE_CHECKING:
    from tracker.engine.memory import ObjectMemory
    from tracker.streams.stream import Stream


@dataclass(slots=True, eq=False)
class TrackedObject:
    """One object of one stream: its memory, and what clients said of it."""

    id: int
    tracked: TrackedStream
    track: ObjectMemory
    mask: ObjectMask  # on frame `frame`
    frame: int  # capture index of the last frame that its memory has seen
    size_wh: tuple[int, int]  # of that frame
    label: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    expire_s: float | None = None
    age: int = 0  # frames processed since it was added
    pending: bool = False  # behind the live edge
    closing_fps: float = 0.0  # the scheduler's: how fast it is to come nearer to the live edge
    visible: bool = True
    lost_since_ns: int | None = None  # time.monotonic_ns()
    guess: Guess | UnsetType = UNSET  # the labeller's
    guess_due_s: float = 0.0  # time.monotonic() from which the labeller looks at it again
    removed: bool = False

    def update(self, frame: Frame, track: ObjectMemory, mask: ObjectMask) -> None:
        """Its memory, now `track`, has taken in `frame`, which gave `mask`."""
        self.track, self.mask = track, mask
        self.frame, self.size_wh = frame.index, frame.size_wh

    def arrived(self) -> None:
        self.pending, self.closing_fps = False, 0.0

    def expired(self, now_ns: int) -> bool:
        if self.expire_s is None or self.lost_since_ns is None:
            return False
        return (now_ns - self.lost_since_ns) / 1e9 >= self.expire_s


@dataclass(slots=True, eq=False)
class TrackedStream:
    """One stream as the engine serves it: the source with its buffer, and the objects on it."""

    stream: Stream
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    processed: int = -1  # capture index of the newest frame that was published
    step: int = -1  # frames published
    dropped: int = 0  # decoded, and passed over for a newer one
    used_ids: UsedIds = field(default_factory=UsedIds)  # removed objects' too: an id never comes back
    turn: float = 0.0  # the scheduler's: when it is served next, among the others

    @property
    def name(self) -> str:
        return self.stream.name

    def object(self, object_id: int) -> TrackedObject:
        try:
            return self.objects[object_id]
        except KeyError:
            known = ", ".join(map(str, self.objects)) or "none"
            raise UnknownObject(f"object: {object_id} is not on stream {self.name!r}; there: {known}") from None

    def claim_id(self, wanted: int | None) -> int:
        """The id for a new object. Ids never come back, so that a removed object is never taken for a new one."""
        if wanted is None:
            return self.used_ids.next(MAX_OBJECT)
        if wanted in self.objects:
            raise AlreadyExists(
                f"object: {wanted} is on stream {self.name!r} already; refine it, or choose another id"
            )
        if wanted in self.used_ids:
            raise AlreadyExists(
                f"object: {wanted} was on stream {self.name!r} before; ids never repeat, choose another"
            )
        return wanted

    def add(self, obj: TrackedObject) -> None:
        self.objects[obj.id] = obj
        self.used_ids.add(obj.id)

    def remove(self, obj: TrackedObject) -> None:
        obj.removed = True
        del self.objects[obj.id]

    def pending(self) -> list[TrackedObject]:
        return [obj for obj in self.objects.values() if obj.pending]

    def expired(self) -> list[TrackedObject]:
        now_ns = time.monotonic_ns()
        return [obj for obj in self.objects.values() if obj.expired(now_ns)]


class StreamTable:
    """All lanes by name."""

    def __init__(self) -> None:
        self._tracked: dict[str, TrackedStream] = {}
        self._gone: dict[str, tuple[int, int, UsedIds]] = {}

    def __iter__(self) -> Iterator[TrackedStream]:
        return iter(list(self._tracked.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._tracked

    def tracked(self, name: str) -> TrackedStream:
        try:
            return self._tracked[name]
        except KeyError:
            known = ", ".join(sorted(self._tracked)) or "none"
            raise UnknownStream(f"stream: no stream is called {name!r}; there: {known}") from None

    def add(self, tracked: TrackedStream) -> None:
        if tracked.name in self._tracked:
            raise AlreadyExists(
                f"stream: {tracked.name!r} is there already; remove it first, or choose another name"
            )
        self._tracked[tracked.name] = tracked
        if tracked.name in self._gone:
            tracked.stream.decoded, tracked.stream.epoch, tracked.used_ids = self._gone.pop(tracked.name)
            tracked.processed = tracked.stream.decoded - 1

    def remove(self, tracked: TrackedStream) -> None:
        """Forget a lane but for its numbers: a stream of that name that comes back goes on counting."""
        for obj in list(tracked.objects.values()):
            tracked.remove(obj)
        del self._tracked[tracked.name]
        self._gone[tracked.name] = tracked.stream.decoded, tracked.stream.epoch, tracked.used_ids

    def object_count(self) -> int:
        return sum(len(tracked.objects) for tracked in self._tracked.values())
