"""An object's life: start, correction, loss, return and end, each with its event. It belongs to the main loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tracker.daemon.events import Events
from tracker.daemon.persistence import Persistence
from tracker.errors import UnknownStream
from tracker.images.types import Frame
from tracker.masks.types import ObjectMask
from tracker.protocol.fields import EventName
from tracker.registry.rows import SavedObject
from tracker.tracking.scheduler import frames_behind
from tracker.tracking.state import Sighting, StreamTable, TrackedObject, TrackedStream

if TYPE_CHECKING:
    from tracker.engine.memory import ObjectMemory


class ObjectLifecycle:
    """The one place that changes which objects there are, and whether they are visible."""

    def __init__(self, table: StreamTable, events: Events, persistence: Persistence) -> None:
        self._table = table
        self._events = events
        self._persistence = persistence

    def start(
        self,
        stream: TrackedStream,
        frame: Frame,
        memory: ObjectMemory,
        mask: ObjectMask,
        *,
        object_id: int | None = None,
        label: str | None = None,
        meta: dict[str, Any] | None = None,
        expire_s: float | None = None,
    ) -> TrackedObject:
        """Track what was prompted on `frame`; `object_id` None: the next free one.

        Raises UnknownStream where the stream was removed while the object was looked for.
        """
        if self._table.stream(stream.name) is not stream:
            raise UnknownStream(f"stream: {stream.name!r} was removed, and is another one now")
        obj = TrackedObject(
            stream.claim_id(object_id),
            stream,
            memory,
            mask,
            frame.index,
            frame.size_wh,
            label,
            meta or {},
            expire_s,
        )
        stream.add(obj)
        obj.pending = bool(frames_behind(obj))
        self._persistence.object_added(obj)
        self._publish(obj, "object_added", obj.frame)
        return obj

    def restore(
        self, stream: TrackedStream, saved: SavedObject, memory: ObjectMemory, mask: ObjectMask, how: str
    ) -> TrackedObject:
        """Go on with an object that was there before a restart."""
        obj = TrackedObject(
            saved.id,
            stream,
            memory,
            mask,
            saved.frame,
            saved.size_wh,
            saved.label,
            saved.meta,
            saved.expire_s,
            saved.age,
            lost_since_ns=None if saved.lost_for_s is None else time.monotonic_ns() - round(saved.lost_for_s * 1e9),
        )
        stream.add(obj)
        self._events.of_object(obj, "object_restored", obj.frame, message=how)
        return obj

    def update(self, obj: TrackedObject, **fields: Any) -> None:
        """A client says something else of it: `label`, `meta`, `expire_s`."""
        for name, value in fields.items():
            setattr(obj, name, value)
        self._persistence.object_changed(obj)

    def correct(self, obj: TrackedObject, frame: Frame, memory: ObjectMemory, mask: ObjectMask) -> None:
        """A prompt on `frame` gave `mask`: what was found out about the object before counts no longer."""
        was_lost = not obj.visible
        obj.corrected(frame, memory, mask)
        obj.pending = bool(frames_behind(obj))
        self._persistence.object_changed(obj)
        self._publish(obj, "object_refined", frame.index)
        if was_lost:
            self._publish(obj, "object_found", frame.index)

    def sight(self, sighting: Sighting) -> None:
        """Take down whether an object is visible, unless it was corrected or removed since that frame."""
        obj = sighting.object
        if obj.is_outdated(sighting.revision) or sighting.visible == obj.visible:
            return
        obj.lost_since_ns = None if sighting.visible else time.monotonic_ns()
        self._persistence.object_changed(obj)
        self._publish(obj, "object_found" if sighting.visible else "object_lost", sighting.frame)

    def settle(self, stream: TrackedStream) -> None:
        """Objects that have reached the live edge go on with the others."""
        for obj in stream.pending():
            if not frames_behind(obj):
                obj.arrived()
                self._publish(obj, "object_caught_up", obj.frame)
                if obj.mask.presence <= 0:  # no later frame may say so: the film has ended
                    self.sight(Sighting(obj, obj.revision, obj.frame, visible=False))

    def expire(self) -> None:
        """Remove the objects that were lost for too long."""
        for stream in self._table:
            for obj in stream.expired():
                self.remove(obj, "object_expired")

    def remove(self, obj: TrackedObject, why: EventName = "object_removed") -> None:
        """Track an object no longer."""
        obj.stream.remove(obj)
        self._persistence.object_removed(obj)
        self._publish(obj, why, obj.frame)

    def _publish(self, obj: TrackedObject, name: EventName, frame: int) -> None:
        self._events.of_object(obj, name, frame)
