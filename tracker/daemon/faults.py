"""Failed steps of the model: as little as possible is lost, and an event says what."""

import logging
import time
from collections import Counter

from tracker.daemon.context import Context
from tracker.errors import AtCapacity
from tracker.tracking.scheduler import ScheduledFrame
from tracker.tracking.state import TrackedObject

log = logging.getLogger(__name__)

# Steps of one stream. Then it is not the frames: where other streams go on, its objects are given up; where none
# does, the daemon ends, and whoever watches it starts it again.
MAX_IN_A_ROW = 100
GOING_ON_S = 10.0  # since a step of another stream went well
MAX_TRIES = 5  # frames in a row that one object may fail on


class Faults:
    """It belongs to the main loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._in_a_row: Counter[str] = Counter()  # failed steps by stream
        self._tries: dict[TrackedObject, int] = {}  # failed in a row
        self._last = ""
        self._passed_s: dict[str, float] = {}  # when a step of a stream went well, lately

    def passed(self, batch: list[ScheduledFrame]) -> None:
        """A step went well."""
        self._last = ""
        now_s = time.monotonic()
        self._passed_s = {name: at_s for name, at_s in self._passed_s.items() if now_s - at_s < GOING_ON_S}
        for work in batch:
            self._passed_s[work.stream.name] = now_s
            self._in_a_row.pop(work.stream.name, None)
        if self._tries:
            for obj in [obj for work in batch for obj in work.objects]:
                self.object_passed(obj)

    def object_passed(self, obj: TrackedObject) -> None:
        self._tries.pop(obj, None)

    def object_failed(self, obj: TrackedObject, index: int, error: Exception) -> None:
        """The object's own step raised on frame `index`: it stays where it is, and is given up after some tries."""
        obj.frame = index
        tries = self._tries.pop(obj, 0) + 1
        level = logging.ERROR if tries == 1 else logging.DEBUG
        log.log(level, "object %d cannot be followed", obj.id, exc_info=error)
        if tries == MAX_TRIES:
            log.error("object %d of stream %s is given up after %d tries", obj.id, obj.stream.name, tries)
            self._context.objects.remove(obj, "object_failed")
            return
        self._tries[obj] = tries
        for other in [other for other in self._tries if other.removed]:
            del self._tries[other]

    def shed(self, work: ScheduledFrame, error: Exception) -> None:
        """Give something up because of `error`: the newest object for want of memory, else the frame itself.
        Raises `error` where that has not helped for long."""
        self._log_once(error)
        self._in_a_row[work.stream.name] += 1
        for name in [name for name in self._in_a_row if name not in self._context.table]:
            del self._in_a_row[name]
        self._end_stream_if_hopeless(work, error)
        if isinstance(error, AtCapacity) and len(work.objects) > 1:
            newest = min(work.objects, key=lambda obj: (obj.age, -obj.id))
            self._give_up(newest, error)
            return
        self._skip(work, error)

    def _end_stream_if_hopeless(self, work: ScheduledFrame, error: Exception) -> None:
        """Raises `error` where no stream goes on."""
        name = work.stream.name
        if self._in_a_row[name] <= MAX_IN_A_ROW:
            return
        now_s = time.monotonic()
        others_go_on = any(now_s - at_s < GOING_ON_S for other, at_s in self._passed_s.items() if other != name)
        if not others_go_on:
            raise error
        log.error("the objects of stream %s are given up after %d failed steps", name, self._in_a_row.pop(name))
        for obj in list(work.stream.objects.values()):
            self._context.objects.remove(obj, "object_failed")

    def _log_once(self, error: Exception) -> None:
        """At once where it is news; the same error again only for who debugs."""
        text = repr(error)
        level = logging.DEBUG if text == self._last else logging.ERROR
        self._last = text
        log.log(level, "a step of the model failed", exc_info=error)

    def _give_up(self, obj: TrackedObject, error: AtCapacity) -> None:
        text = f"object {obj.id} is removed: {error}"
        self._context.events.of_stream(obj.stream.source, "overload", obj.frame, object=obj.id, message=text)
        self._context.objects.remove(obj)

    def _skip(self, work: ScheduledFrame, error: Exception) -> None:
        """Treat the frame as dropped, so that no memory has a hole."""
        stream, index = work.stream, work.frame.index
        if work.live:
            stream.dropped += index - stream.processed
            stream.processed = index
            stream.source.buffer.consumed(index)
        for obj in work.objects:
            obj.frame = index
        text = f"frame {index} is left out: {type(error).__name__}: {error}"
        self._context.events.of_stream(stream.source, "overload", index, message=text)
