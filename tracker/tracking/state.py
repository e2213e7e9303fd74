"""The state of each stream and each object, beside pictures and tensors.

Only the main loop writes it. Other threads get frozen copies and send results back to the main loop in queues.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from tracker.errors import AlreadyExists, BadRequest, UnknownObject, UnknownStream
from tracker.masks.types import ObjectMask
from tracker.protocol.fields import MAX_OBJECT
from tracker.protocol.records import Description, Guess
from tracker.tracking.ids import UsedIds

if TYPE_CHECKING:
    from tracker.engine.memory import ObjectMemory
    from tracker.images.types import Frame
    from tracker.streams.stream import Stream


MAX_GONE = 4096  # removed streams whose numbers are remembered


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a stream that is not here goes on from, so that no number is given twice."""

    decoded: int = 0
    epoch: int = 0
    used_ids: UsedIds = field(default_factory=UsedIds)
    first_object: int = 1  # lower ids were given before the stream came here


@dataclass(slots=True, eq=False)
class TrackedObject:
    """One object of one stream: its memory, and what clients said of it.

    `revision` grows with every correction. A result that another thread found out about an earlier revision says
    nothing about this one, and is dropped.
    """

    id: int
    stream: TrackedStream
    memory: ObjectMemory
    mask: ObjectMask  # on frame `frame`
    frame: int  # capture index of the last frame that its memory has seen
    size_wh: tuple[int, int]  # of that frame
    label: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    expire_s: float | None = None
    age: int = 0  # frames processed since it was added
    revision: int = 0
    pending: bool = False  # behind the live edge
    closing_fps: float = 0.0  # the scheduler's: how fast it is to come nearer to the live edge
    lost_since_ns: int | None = None  # time.monotonic_ns(); None: it is visible
    guess: Guess | UnsetType = UNSET  # the labeller's
    look_due_s: float = 0.0  # time.monotonic() from which a look of it is taken again
    description: Description | UnsetType = UNSET  # in words
    describe_asked: bool = False  # it was given to be described since it was added or corrected
    guess_due_s: float = 0.0  # time.monotonic() from which the labeller looks at it again
    prompted: tuple[int, ObjectMask] = field(init=False)  # the frame of the last prompt, and the mask that it gave

    def __post_init__(self) -> None:
        self.prompted = self.frame, self.mask

    @property
    def visible(self) -> bool:
        return self.lost_since_ns is None

    @property
    def removed(self) -> bool:
        return self.stream.objects.get(self.id) is not self

    def followed(self, frame: Frame, memory: ObjectMemory, mask: ObjectMask) -> None:
        """Its memory, now `memory`, has taken in `frame`, which gave `mask`."""
        self.memory, self.mask = memory, mask
        self.frame, self.size_wh = frame.index, frame.size_wh

    def corrected(self, frame: Frame, memory: ObjectMemory, mask: ObjectMask) -> None:
        """A prompt on `frame` gave `mask`. It is visible there, and must not expire while it catches up."""
        self.followed(frame, memory, mask)
        self.prompted = frame.index, mask
        self.revision += 1
        self.lost_since_ns = None
        self.look_due_s = 0.0
        self.describe_asked = False
        self.guess_due_s = 0.0

    def is_outdated(self, revision: int) -> bool:
        """Whether what was found out about the object at `revision` counts no longer."""
        return self.removed or revision != self.revision

    def arrived(self) -> None:
        """It has caught up with the live edge."""
        self.pending, self.closing_fps = False, 0.0

    def expired(self, now_ns: int) -> bool:
        if self.expire_s is None or self.lost_since_ns is None:
            return False
        return (now_ns - self.lost_since_ns) / 1e9 >= self.expire_s


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """Whether an object, as it was at `revision`, can be seen on a frame: delivery's result for the main loop."""

    object: TrackedObject
    revision: int
    frame: int
    visible: bool


@dataclass(slots=True, eq=False)
class TrackedStream:
    """One stream as the main loop serves it: the source with its buffer, and the objects on it."""

    source: Stream
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    processed: int = -1  # capture index of the newest frame that was published
    step: int = -1  # frames published
    dropped: int = 0  # decoded, and passed over for a newer one
    used_ids: UsedIds = field(default_factory=UsedIds)  # removed objects' too: an id never comes back
    first_object: int = 1  # lower ids were given before the stream came here
    turn: float = 0.0  # the scheduler's: when it is served next, among the others

    @property
    def name(self) -> str:
        return self.source.name

    def object(self, object_id: int) -> TrackedObject:
        try:
            return self.objects[object_id]
        except KeyError:
            known = ", ".join(map(str, self.objects)) or "none"
            raise UnknownObject(f"object: {object_id} is not on stream {self.name!r}; there: {known}") from None

    def claim_id(self, wanted: int | None) -> int:
        """The id for a new object. Ids never come back, so that a removed object is never taken for a new one."""
        if wanted is None:
            return self.used_ids.next(MAX_OBJECT, self.first_object)
        if wanted in self.objects:
            raise AlreadyExists(
                f"object: {wanted} is on stream {self.name!r} already; refine it, or choose another id"
            )
        if wanted in self.used_ids:
            raise AlreadyExists(
                f"object: {wanted} was on stream {self.name!r} before; ids never repeat, choose another"
            )
        return wanted

    def claim_moved_id(self, wanted: int) -> int:
        """The id of an object that comes from another daemon; it may have been here. Raises AlreadyExists."""
        return wanted if wanted in self.used_ids and wanted not in self.objects else self.claim_id(wanted)

    def add(self, obj: TrackedObject) -> None:
        self.objects[obj.id] = obj
        self.used_ids.add(obj.id)

    def remove(self, obj: TrackedObject) -> None:
        del self.objects[obj.id]

    def pending(self) -> list[TrackedObject]:
        return [obj for obj in self.objects.values() if obj.pending]

    def expired(self) -> list[TrackedObject]:
        now_ns = time.monotonic_ns()
        return [obj for obj in self.objects.values() if obj.expired(now_ns)]


class StreamTable:
    """All streams by name."""

    def __init__(self) -> None:
        self._streams: dict[str, TrackedStream] = {}
        self._gone: dict[str, Numbers] = {}  # of the streams removed last, at most MAX_GONE

    def __iter__(self) -> Iterator[TrackedStream]:
        return iter(list(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, name: str) -> bool:
        return name in self._streams

    def stream(self, name: str) -> TrackedStream:
        try:
            return self._streams[name]
        except KeyError:
            raise self._unknown("stream", name) from None

    def refuse_unheard_of(self, field: str, name: str) -> None:
        """Raises UnknownStream for the name of a stream that is not there and was not there before."""
        if name not in self._streams and name not in self._gone:
            raise self._unknown(field, name)

    def _unknown(self, field: str, name: str) -> UnknownStream:
        known = ", ".join(sorted(self._streams)) or "none"
        return UnknownStream(f"{field}: no stream is called {name!r}; there: {known}")

    def add(self, stream: TrackedStream) -> None:
        if stream.name in self._streams:
            raise AlreadyExists(
                f"stream: {stream.name!r} is there already; remove it first, or choose another name"
            )
        self._streams[stream.name] = stream
        if stream.name in self._gone:
            before = self._gone.pop(stream.name)
            stream.used_ids, stream.first_object = before.used_ids, before.first_object
            stream.source.go_on_from(before.decoded, before.epoch)
            stream.processed = before.decoded - 1

    def go_on_from(self, name: str, numbers: Numbers) -> None:
        """A stream that is not here yet will count on from these numbers."""
        self._gone.pop(name, None)
        self._gone[name] = numbers
        while len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]

    def go_on_beyond(self, name: str, first_frame: int, epoch: int, first_object: int) -> None:
        """A stream that comes from elsewhere counts on from there. Raises BadRequest where these frames or epochs
        were given here already; ids go on from the greater ones."""
        had = self._gone.get(name, Numbers())
        if first_frame and first_frame < had.decoded:
            raise BadRequest(f"first_frame: stream {name!r} has had frame {had.decoded - 1} here; begin after it")
        if epoch and epoch < had.epoch:
            raise BadRequest(f"epoch: stream {name!r} has had epoch {had.epoch} here; begin with it or later")
        decoded, first_object = max(had.decoded, first_frame), max(had.first_object, first_object)
        self.go_on_from(name, Numbers(decoded, max(had.epoch, epoch), had.used_ids, first_object))

    def remove(self, stream: TrackedStream) -> None:
        """Forget a stream but for its numbers: a stream of that name that comes back goes on counting."""
        for obj in list(stream.objects.values()):
            stream.remove(obj)
        del self._streams[stream.name]
        source = stream.source
        self.go_on_from(stream.name, Numbers(source.decoded, source.epoch, stream.used_ids, stream.first_object))

    def object_count(self) -> int:
        return sum(len(stream.objects) for stream in self._streams.values())
