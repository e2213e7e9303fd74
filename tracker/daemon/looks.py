"""A memory of looks beside tracking: what objects looked like, found again on any camera, and waited for.

The main loop pools features that the encoder has computed anyway, now and then and of few objects a step; all else
happens in a thread of its own. What waits for it is bounded, and nobody waits for it but who asked.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import msgspec
import numpy as np

from tracker.config import LooksConfig
from tracker.daemon.events import Events
from tracker.errors import TrackerError, Unavailable
from tracker.images import imaging, looks
from tracker.masks.geometry import mask_of
from tracker.protocol.fields import EventName
from tracker.protocol.replies import Maybe
from tracker.registry.folder import DATABASE
from tracker.registry.rows import PutLook
from tracker.registry.similar import Look, LookHit, LookQuery, WatchedLook, opened_for_reading
from tracker.registry.store import Store
from tracker.threads import NamedThread
from tracker.tracking.state import TrackedObject
from tracker.types import F32, Frame, ObjectMask

log = logging.getLogger(__name__)

APPEARANCE = "appearance"
PER_STEP = 2  # objects looked at in one step of the model: the main loop pools their features
PER_OBJECT = 8  # looks kept of an object, the most different ones; and its last one
WAITING = 64  # tasks; each holds on to a frame
SCORE = 0.5  # the model's own, below which an object is not well visible
NEW = 0.98  # as alike as this adds nothing
RECENT = 64  # lost objects of a stream that may come back
RECENT_S = 600.0
KNOWN = 4096  # objects whose looks are at hand, and alarms that were raised
STOP_S = 1.0

Key = tuple[str, int]  # stream, object


@dataclass(frozen=True, slots=True, eq=False)
class LookTask:
    """An object as it was on one frame, with the features inside its mask."""

    key: Key
    label: str | None
    frame: Frame
    mask: ObjectMask
    pooled_c: F32
    obj: TrackedObject | None = None  # whom an alarm is about


@dataclass(slots=True)
class _Known:
    """The looks of an object that is tracked: vectors by slot, and the newest one."""

    vectors: dict[int, F32] = field(default_factory=dict)
    last: Look | None = None


class LookMemory:
    """`offer`, `happened`, `ask` and `maybe` belong to the main loop; `vectors` and the rest to the thread."""

    def __init__(self, config: LooksConfig, model: str, events: Events, store: Store | None) -> None:
        self._config = config
        self.model = model
        self._events = events
        self._store = store
        self.busy_since_s: float | None = None
        self.dropped = 0  # tasks that found no room
        self._tasks: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._lock = threading.Lock()  # of the next two
        self._recent: dict[str, OrderedDict[int, tuple[float, list[F32]]]] = {}
        self._watched: dict[int, WatchedLook] = {}
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._alarmed: OrderedDict[tuple[int, Key], None] = OrderedDict()
        self._reading: tuple[apsw.Connection, Any] | None = None
        self._thread = NamedThread(target=self._run, name="looks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(queue.Full):
            self._tasks.put(None, timeout=STOP_S)
            self._thread.join(STOP_S)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    # ------------------------------------------------------------------------------------------- the main loop's

    def due(self, objects: Sequence[TrackedObject]) -> list[TrackedObject]:
        """Who is to be looked at now: well visible, and not for a while."""
        now_s = time.monotonic()
        found = [obj for obj in objects if now_s >= obj.look_due_s and not obj.pending]
        visible = [obj for obj in found if obj.mask.presence > 0 and obj.mask.score >= SCORE][:PER_STEP]
        for obj in visible:
            obj.look_due_s = now_s + self._config.every_s
        return visible

    def offer(self, obj: TrackedObject, frame: Frame, mask: ObjectMask, pooled_c: F32) -> None:
        task = LookTask((obj.stream.name, obj.id), obj.label, frame, mask, pooled_c, obj)
        self.ask(lambda: self._take(task))

    def added(self, obj: TrackedObject, frame: Frame, mask: ObjectMask, pooled_c: F32) -> list[Maybe]:
        """Keep an object's first look. Returns who of the stream's recently lost it may be."""
        task = LookTask((obj.stream.name, obj.id), obj.label, frame, mask, pooled_c, obj)
        with self._lock:
            anybody = bool(self._recent.get(obj.stream.name))
        look = look_of(task, APPEARANCE, self.model) if anybody else None
        self.ask(lambda: self._take(task))
        return self.maybe(obj.stream.name, look.vector_c) if look is not None else []

    def happened(self, obj: TrackedObject, name: EventName) -> None:
        """Told of every event of an object."""
        if name in ("object_lost", "object_removed", "object_expired"):
            key = obj.stream.name, obj.id
            self.ask(lambda: self._lose(key, gone=name != "object_lost"))
        elif name == "object_found":
            with self._lock:
                self._recent.get(obj.stream.name, OrderedDict()).pop(obj.id, None)

    def ask(self, work: Callable[[], None]) -> bool:
        """Have the thread do something; never waits. Returns whether there was room."""
        try:
            self._tasks.put_nowait(work)
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def maybe(self, stream: str, vector_c: F32) -> list[Maybe]:
        """Objects of the stream that were lost of late and look like this, best first."""
        with self._lock:
            lost = dict(self._recent.get(stream, {}))
        now_s = time.monotonic()
        scores = {
            object_id: max(float(vector_c @ other_c) for other_c in vectors)
            for object_id, (since_s, vectors) in lost.items()
            if now_s - since_s < RECENT_S and vectors
        }
        found = [(score, i) for i, score in scores.items() if score >= self._config.alike]
        return [Maybe(object=i, score=round(score, 4)) for score, i in sorted(found, reverse=True)]

    # ---------------------------------------------------------------------------------------------- its own thread

    def _run(self) -> None:
        self._load_watched()
        while (work := self._tasks.get()) is not None:
            self.busy_since_s = time.monotonic()
            try:
                work()
            except Exception:  # one look's trouble must not end the memory of all others
                log.exception("a look could not be taken")
            self.busy_since_s = None
        self._close_reading()

    def _take(self, task: LookTask) -> None:
        look = look_of(task, APPEARANCE, self.model)
        if look is None:
            return
        known = self._known_of(task.key)
        known.last = look
        slot = slot_for(known.vectors, look.vector_c)
        if slot is not None:
            known.vectors[slot] = look.vector_c
            self._save(look, slot)
        if task.obj is not None:
            self._compare(look, task.obj)

    def _lose(self, key: Key, *, gone: bool) -> None:
        """Keep how it looked last, and expect it back."""
        known = self._known.get(key)
        if known is None or known.last is None:
            return
        self._save(known.last, PER_OBJECT)
        stream, object_id = key
        with self._lock:
            lost = self._recent.setdefault(stream, OrderedDict())
            lost[object_id] = time.monotonic(), [*known.vectors.values(), known.last.vector_c]
            while len(lost) > RECENT:
                lost.popitem(last=False)
        if gone:
            del self._known[key]

    def _save(self, look: Look, slot: int) -> None:
        if self._store is not None:
            self._store.save_look(PutLook(msgspec.structs.replace(look, slot=slot)))

    def _known_of(self, key: Key) -> _Known:
        known = self._known.get(key)
        if known is None:
            looks_there = self._read(lambda found: found.of_object(APPEARANCE, self.model, *key))
            vectors = {look.slot: look.vector_c for look in looks_there or [] if look.slot < PER_OBJECT}
            known = self._known[key] = _Known(vectors)
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return known

    def _compare(self, look: Look, obj: TrackedObject) -> None:
        """Tell where it looks like what is waited for: once for each object and watched look."""
        for watched in self.watched():
            alarm = watched.id, (look.stream, look.object)
            if (watched.kind, watched.model) != (look.kind, look.model) or alarm in self._alarmed:
                continue
            score = float(look.vector_c @ np.frombuffer(watched.vector, np.float32))
            if score >= watched.threshold:
                self._alarmed[alarm] = None
                while len(self._alarmed) > KNOWN:
                    self._alarmed.popitem(last=False)
                more = {"watch": watched.id, "score": round(score, 4), "message": watched.name}
                self._events.of_stream(
                    obj.stream.source, "looks_like", look.frame, object=look.object, label=look.label, **more
                )

    # ------------------------------------------------------------------------------------ looks that are waited for

    def watched(self) -> list[WatchedLook]:
        with self._lock:
            return list(self._watched.values())

    def watch(self, watched: WatchedLook) -> None:
        with self._lock:
            self._watched[watched.id] = watched

    def unwatch(self, watched_id: int) -> WatchedLook | None:
        with self._lock:
            return self._watched.pop(watched_id, None)

    def _load_watched(self) -> None:
        for watched in self._read(lambda found: found.watched()) or []:
            self.watch(watched)

    # --------------------------------------------------------------------------------------------------- reading

    def vectors_of(self, stream: str, object_id: int) -> list[F32]:
        """Of an object that is tracked, or was. The thread's."""
        known = self._known.get((stream, object_id))
        if known is not None and known.last is not None:
            return [*known.vectors.values(), known.last.vector_c]
        found = self._read(lambda found: found.of_object(APPEARANCE, self.model, stream, object_id))
        return [look.vector_c for look in found or []]

    def find(self, query: LookQuery) -> tuple[list[LookHit], int]:
        """Hits, and how many looks are another model's. Raises Unavailable. The thread's."""
        if self._store is None:
            raise Unavailable("no looks are kept: persist.dir is not set in the configuration")
        found = self._read(lambda looks: (looks.find(query), looks.left_out(query.kind, query.model)))
        if found is None:
            raise Unavailable("the looks cannot be read now; the daemon's log says why")
        hits, left_out = found
        return hits, left_out

    def _read(self, work: Callable[[Any], Any]) -> Any:
        """What `work` finds; None where nothing is kept, or it cannot be read."""
        if self._store is None or self._store.failed:
            self._close_reading()
            return None
        try:
            if self._reading is None:
                self._reading = opened_for_reading(str(self._store.folder / DATABASE))
            return work(self._reading[1])
        except apsw.Error as error:
            log.warning("looks cannot be read: %s", error)
            self._close_reading()
            return None

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading[0].close()
            self._reading = None


def look_of(task: LookTask, kind: str, model: str) -> Look | None:
    """Colours, thumbnail and vector of an object; None where its mask is empty."""
    rgb_hwc = imaging.to_rgb(task.frame.image)
    mask_hw = mask_of(task.mask.logits_hw, task.frame.size_wh)
    rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
    if not len(rows):
        return None
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    x1, y1, x2, y2 = box
    inside = slice(y1, y2), slice(x1, x2)
    crop_hwc, part_hw = np.ascontiguousarray(rgb_hwc[inside]), np.ascontiguousarray(mask_hw[inside])
    vector_c = looks.appearance(task.pooled_c, looks.colours(crop_hwc, part_hw))
    return Look(
        kind=kind,
        model=model,
        stream=task.key[0],
        object=task.key[1],
        slot=0,
        frame=task.frame.index,
        time=task.frame.time,
        box=box,
        label=task.label,
        thumbnail=looks.thumbnail(rgb_hwc, box),
        vector=vector_c.tobytes(),
    )


def slot_for(vectors: dict[int, F32], vector_c: F32) -> int | None:
    """Where a look is kept so that the kept ones differ most; None where it adds nothing."""
    likeness = {slot: float(other_c @ vector_c) for slot, other_c in vectors.items()}
    nearest = max(likeness.values(), default=-1.0)
    if nearest >= NEW:
        return None
    if len(vectors) < PER_OBJECT:
        return next(slot for slot in range(PER_OBJECT) if slot not in vectors)
    slots = sorted(vectors)
    pairs = [(float(vectors[a] @ vectors[b]), b) for a in slots for b in slots if a < b]
    closest, slot = max(pairs)
    return slot if nearest < closest else None


def failed_by(fail: Callable[[TrackerError], None], work: Callable[[], None]) -> Callable[[], None]:
    """`work` whose errors reach who asked for it."""

    def guarded() -> None:
        try:
            work()
        except TrackerError as error:
            fail(error)
        except Exception as error:
            log.exception("a search failed")
            fail(TrackerError(f"the search failed inside the daemon: {type(error).__name__}; see its log"))

    return guarded
