"""One step of the model after the other: frames in, masks to delivery, and what is tried where a step fails."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable

from tracker.daemon.context import Context
from tracker.daemon.delivery import Delivery, ProcessedFrame
from tracker.daemon.faults import Faults
from tracker.engine.forward import Features
from tracker.engine.memory import ObjectMemory
from tracker.errors import AtCapacity, device_is_lost
from tracker.images.types import Frame
from tracker.masks.types import ObjectMask
from tracker.tracking.records import ObjectSnapshot
from tracker.tracking.scheduler import ScheduledFrame, Scheduler
from tracker.tracking.state import TrackedObject, TrackedStream

log = logging.getLogger(__name__)

TIMES_KEPT = 1000  # of the steps between two status messages

Span = tuple[int, int]  # when the model was at a frame, monotonic nanoseconds


class Steps:
    """It belongs to the main loop. `observe(seconds)` is told what each step took."""

    def __init__(
        self, context: Context, scheduler: Scheduler, delivery: Delivery, observe: Callable[[float], object]
    ) -> None:
        self.under_way = False  # the model is at work: read by the watch
        self._context = context
        self._scheduler = scheduler
        self._delivery = delivery
        self._observe = observe
        self._faults = Faults(context)
        self._fewest: float = math.inf  # streams that memory sufficed for, as far as the log was told
        self._times_ms: deque[tuple[float, float]] = deque(maxlen=TIMES_KEPT)  # by the clock, of the processor

    def take_times_ms(self) -> deque[tuple[float, float]]:
        """Take the times of the steps since the last call."""
        times_ms, self._times_ms = self._times_ms, deque(maxlen=TIMES_KEPT)
        return times_ms

    def process(self, batch: list[ScheduledFrame]) -> None:
        """One step of the model, and where its masks go."""
        span: Span | None = None
        parts: list[list[ScheduledFrame]] = []
        with_objects = [work for work in batch if work.objects]
        if with_objects:
            try:
                span = self._timed(with_objects)
            except Exception as error:  # noqa: BLE001 - whatever it is, everything else goes on
                if len(batch) == 1:
                    self._fail(batch[0], error)
                    return
                parts = self._parted(batch, error)
            if parts:  # tried here, where the error holds none of the memory any more that the step took
                for part in parts:
                    self.process(part)
                return
            self._faults.passed(with_objects)
        for work in batch:
            if work.live:
                self._publish(work, span if work.objects else None)
            self._context.objects.settle(work.stream)

    def _timed(self, batch: list[ScheduledFrame]) -> Span:
        started_ns = time.monotonic_ns()
        cpu_started_s = time.thread_time()
        try:
            self.under_way = True
            self._follow(batch)
        finally:
            self.under_way = False
        ended_ns = time.monotonic_ns()
        cpu_s = time.thread_time() - cpu_started_s
        seconds = (ended_ns - started_ns) / 1e9
        self._scheduler.spent(batch, seconds)
        self._observe(seconds)
        self._times_ms.append((seconds * 1e3, cpu_s * 1e3))
        return started_ns, ended_ns

    def _follow(self, batch: list[ScheduledFrame]) -> None:
        """All images in one encoder pass, all objects on to their next frames."""
        engine = self._context.engine
        features = self._context.step_features([work.frame for work in batch])
        moves = [(obj, i, work.frame) for i, work in enumerate(batch) for obj in work.objects]
        items = [(obj.memory, i, frame.index) for obj, i, frame in moves]
        results = engine.propagate(items, features)
        for (obj, _, frame), (memory, mask) in zip(moves, results, strict=True):
            _led_on(obj, frame, memory, mask)
        self._look(batch, features)

    def _look(self, batch: list[ScheduledFrame], features: Features) -> None:
        """Hand over what some objects look like, whose turn it is."""
        looks = self._context.looks
        with self._context.failures.spared("looks"):
            for i, work in enumerate(batch):
                for obj in looks.due(work.objects):
                    look = self._context.engine.look(features, i, obj.mask.logits_hw > 0)
                    looks.offer(obj, work.frame, obj.mask, look)

    def _parted(self, batch: list[ScheduledFrame], error: Exception) -> list[list[ScheduledFrame]]:
        """What streams that shared a failed step are tried in: one by one, so that one bad frame costs the others
        nothing; for want of memory in halves, and for a while no step has more."""
        if not isinstance(error, AtCapacity):
            return [[work] for work in batch]
        with_objects = [work for work in batch if work.objects]
        half = math.ceil(len(with_objects) / 2)
        if len(with_objects) > 1:
            self._scheduler.narrow(half)
            if half < self._fewest:
                self._fewest = half
                why = str(error)  # not the error itself: a log that keeps it keeps the step's memory
                log.warning("device memory does not suffice for %d streams at once: %s", len(with_objects), why)
        without = [work for work in batch if not work.objects]
        return [part for part in (with_objects[:half], with_objects[half:], without) if part]

    def _fail(self, work: ScheduledFrame, error: Exception) -> None:
        """The step of one stream failed: its objects are tried one by one, and something is given up."""
        if device_is_lost(error):
            raise error
        if isinstance(error, AtCapacity) or not self._followed_one_by_one(work):
            self._faults.shed(work, error)
        elif work.live:
            self._publish(work, None)
        self._context.objects.settle(work.stream)

    def _followed_one_by_one(self, work: ScheduledFrame) -> bool:
        """Lead each object on alone, so that one whose step raises costs the others nothing. Returns whether the
        frame counts as processed: not where it could not be encoded, or no object of several could be led on."""
        engine, frame = self._context.engine, work.frame
        try:
            features = engine.encode([frame.image])
        except Exception:  # noqa: BLE001 - the caller has its error
            return False
        failed = []
        for obj in work.objects:
            try:
                ((memory, mask),) = engine.propagate([(obj.memory, 0, frame.index)], features)
            except Exception as reason:  # noqa: BLE001 - told by `object_failed`
                failed.append((obj, reason))
            else:
                _led_on(obj, frame, memory, mask)
                self._faults.object_passed(obj)
        if failed and len(failed) == len(work.objects) > 1:
            return False
        for obj, error in failed:
            self._faults.object_failed(obj, frame.index, error)
        return len(failed) < len(work.objects)

    def _publish(self, work: ScheduledFrame, model_mono_ns: Span | None) -> None:
        """Hand the frame and its objects to delivery."""
        stream, frame = work.stream, work.frame
        stream.dropped += frame.index - stream.processed - 1
        stream.processed = frame.index
        stream.step += 1
        processed = _processed(stream, frame, model_mono_ns)
        self._delivery.put(processed)
        stream.source.buffer.consumed(frame.index)


def _led_on(obj: TrackedObject, frame: Frame, memory: ObjectMemory, mask: ObjectMask) -> None:
    """Take down that an object was followed on to `frame`."""
    obj.followed(frame, memory, mask)
    obj.age += 1


def _processed(stream: TrackedStream, frame: Frame, model_mono_ns: Span | None) -> ProcessedFrame:
    """The stream's objects as they are on `frame`, frozen for another thread."""
    objects = stream.objects.values()
    on_it = [obj for obj in objects if obj.pending or obj.frame == frame.index]
    seen = tuple(ObjectSnapshot.of(obj) for obj in on_it)
    owner, tracked = stream.source.owner, frozenset(stream.objects)
    return ProcessedFrame(frame, stream.step, stream.dropped, model_mono_ns, seen, owner, tracked)
