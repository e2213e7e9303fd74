"""The thread that takes looks, and what the main loop hands to it.

The main loop pools features that the encoder has computed anyway, now and then and of few objects a step; all else
happens in a thread of its own. What waits for it is bounded, and nobody waits for it but who asked.
"""

import time
from collections.abc import Callable, Sequence

from msgspec import structs

from tracker.config import LooksConfig
from tracker.daemon.events import Events
from tracker.daemon.looks.kept import LAST, KeptLooks
from tracker.daemon.looks.look import APPEARANCE, CLIP, Key, LookTask, SeenObject, appearance_of, seen
from tracker.daemon.looks.lost import RecentlyLost
from tracker.daemon.looks.reader import LookReader
from tracker.daemon.looks.watched import WatchedLooks
from tracker.errors import TrackerError
from tracker.images.looks import sharpness_of
from tracker.images.types import Frame
from tracker.labels.crops import masked_crop
from tracker.labels.labeller import Labeller
from tracker.labels.waiting import Vector
from tracker.masks.types import F32, U8, ObjectMask
from tracker.protocol.fields import EventName
from tracker.protocol.replies import Maybe
from tracker.registry.rows import PutLook
from tracker.registry.similar import Look
from tracker.registry.store import Store
from tracker.threads import Failures, TaskThread
from tracker.tracking.state import TrackedObject

PER_STEP = 2  # objects looked at in one step of the model: the main loop pools their features
WAITING = 64  # tasks; each holds on to a frame
SCORE = 0.5  # the model's own, below which an object is not well visible
SMALLEST_PX = 64  # of a mask at the source's size, below which an object is not well visible
CLIP_SIDE = 224  # pixels of the crop that CLIP gets: what nearly all of them take


class LookMemory(TaskThread[Callable[[], None]]):
    """`due`, `offer`, `added` and `happened` belong to the main loop, `ask` to any thread, the rest to its own."""

    def __init__(
        self,
        config: LooksConfig,
        model: str,
        events: Events,
        store: Store | None,
        clip: Labeller,
        failures: Failures,
    ) -> None:
        super().__init__("looks", WAITING, failures)
        self._config = config
        self.model = model
        self.clip = clip
        self.reader = LookReader(store)
        self.watched = WatchedLooks(events)
        self.dropped = 0  # tasks that found no room
        self._store = store
        self._lost = RecentlyLost(config.alike)
        self._kept = KeptLooks(lambda key: self.reader.of_object(APPEARANCE, model, *key))

    def waiting(self) -> int:
        return self._tasks.qsize()

    # ------------------------------------------------------------------------------------------- the main loop's

    def due(self, objects: Sequence[TrackedObject]) -> list[TrackedObject]:
        """Objects to be looked at now: well visible, and not looked at for a while."""
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
        stream = obj.stream.name
        task = LookTask((stream, obj.id), obj.label, frame, mask, pooled_c, obj)
        self.ask(lambda: self._take(task))
        pixels = seen(task) if self._lost.any_of(stream) else None
        if pixels is None:
            return []
        look = appearance_of(task, pixels, self.model)
        return self._lost.maybe(stream, look.vector_c)

    def happened(self, obj: TrackedObject, name: EventName) -> None:
        """Told of every event of an object."""
        key = obj.stream.name, obj.id
        if name in ("object_lost", "object_removed", "object_expired"):
            self.ask(lambda: self._lose(key, gone=name != "object_lost"))
        elif name == "object_found":
            self._lost.found(key)

    def ask(self, work: Callable[[], None]) -> bool:
        """Have the thread do something; never waits. Returns whether there was room."""
        has_room = self.put(work)
        self.dropped += not has_room
        return has_room

    # ---------------------------------------------------------------------------------------------- its own thread

    def looks_of(self, stream: str, object_id: int) -> tuple[list[F32], bytes]:
        """Vectors of an object that is tracked, or was, and its newest thumbnail."""
        known = self._kept.find((stream, object_id))
        if known is not None and known.last is not None:
            return known.all_vectors(), known.last.thumbnail
        looks = self.reader.of_object(APPEARANCE, self.model, stream, object_id)
        newest = max(looks, key=lambda look: look.time, default=None)
        return [look.vector_c for look in looks], b"" if newest is None else newest.thumbnail

    def _begin(self) -> None:
        for watched in self.reader.watched():
            self.watched.add(watched)

    def _do(self, task: Callable[[], None]) -> None:
        task()

    def _end(self) -> None:
        self.reader.close()

    def _take(self, task: LookTask) -> None:
        pixels = seen(task)
        if pixels is None:
            return
        sharpness = sharpness_of(pixels.crop_hwc, pixels.part_hw)
        large = pixels.part_hw.sum() >= SMALLEST_PX
        if not self._kept.wants(task.key, sharpness if large else 0.0):
            return
        look = appearance_of(task, pixels, self.model)
        slot = self._kept.take(look, sharpness)
        crop_hwc = self._crop_for_clip(pixels)
        if slot is None:
            self._kept.set_aside(task.key, crop_hwc)
        else:
            self._save(look, slot)
            self._embed(look, slot, crop_hwc)
        if task.obj is not None:
            self.watched.compare(look, task.obj)

    def _crop_for_clip(self, pixels: SeenObject) -> U8 | None:
        has_clip = self.clip.state not in ("off", "failed")
        return masked_crop(pixels.rgb_hwc, pixels.mask_hw, CLIP_SIDE) if has_clip else None

    def _embed(self, look: Look, slot: int, crop_hwc: U8 | None) -> None:
        """Keep CLIP's vector of the same look beside it; it comes when there is time, if none comes before."""

        def keep(found: Vector | None) -> None:
            if found is not None:
                vector = found.vector_c.tobytes()
                self._save(structs.replace(look, kind=CLIP, model=found.model, vector=vector), slot)

        if crop_hwc is not None:
            self.clip.embed_look((look.stream, look.object), crop_hwc, keep)

    def _lose(self, key: Key, *, gone: bool) -> None:
        """Keep how it looked last, and expect it back."""
        known = self._kept.find(key)
        if known is None or known.last is None:
            return
        self._save(known.last, LAST)
        self._embed(known.last, LAST, known.take_crop())
        self._lost.put(key, known.all_vectors())
        if gone:
            self._kept.forget(key)

    def _save(self, look: Look, slot: int) -> None:
        if self._store is not None:
            self._store.save_look(PutLook(structs.replace(look, slot=slot)))


def failed_by(fail: Callable[[TrackerError], None], work: Callable[[], None]) -> Callable[[], None]:
    """`work` whose errors reach who asked for it; those of the program's own are raised as well."""

    def guarded() -> None:
        try:
            work()
        except TrackerError as error:
            fail(error)
        except Exception as error:
            fail(TrackerError(f"the search failed inside the daemon: {type(error).__name__}; see its log"))
            raise

    return guarded
