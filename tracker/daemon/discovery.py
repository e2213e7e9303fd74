"""Watching a stream for new things: everything in a frame is looked for in spare time, and what is new and is still
there a moment later is followed."""

import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from tracker.config import DiscoverConfig
from tracker.daemon.admission import free_slots
from tracker.daemon.context import Context
from tracker.daemon.matching import SAME_IOU, already_tracked, matched, near, small
from tracker.engine import automatic
from tracker.engine.found_masks import Found
from tracker.engine.memory import ObjectMemory
from tracker.errors import TrackerError
from tracker.images import imaging
from tracker.images.types import Frame
from tracker.masks.types import ObjectMask
from tracker.protocol.prompt import Prompt
from tracker.protocol.replies import Empty
from tracker.protocol.requests import SearchOptions
from tracker.tracking.jobs import Jobs, Slices
from tracker.tracking.state import TrackedStream

log = logging.getLogger(__name__)

NO_FRAME_S = 1.0
"""How long to wait where there is no frame yet, or none since the one that was searched."""


@dataclass(eq=False)
class _Watch:
    """One stream that is watched; it is who asks for the searches."""

    stream: TrackedStream
    config: DiscoverConfig
    due_s: float = field(default_factory=time.monotonic)
    found: list[ObjectMemory] = field(default_factory=list)  # new things of the last search, still to be seen again
    at_work: bool = False
    id: Any = field(default_factory=object)  # like no request's, so that segment.cancel never means it
    op: str = "discover"
    owner: bytes = b""  # no client's
    gone: bool = False

    def reconfigure(self, config: DiscoverConfig) -> None:
        """From now on it is `config` that counts, also for when the next search comes."""
        if config.every_s < self.config.every_s:
            self.due_s = min(self.due_s, time.monotonic() + config.every_s)
        self.config = config

    def reply(self, _: Struct) -> None:
        self.at_work = False

    def fail(self, error: TrackerError) -> None:
        self.at_work = False
        log.warning("stream %s: looking for new things failed: %s", self.stream.name, error)


class Discovery:
    """Searches on the streams whose configuration asks for it. It belongs to the main loop."""

    def __init__(self, context: Context, jobs: Jobs) -> None:
        self._context = context
        self._jobs = jobs
        self._watches: dict[TrackedStream, _Watch] = {}

    def tick(self) -> None:
        """Start what is due."""
        self._watches = {stream: self._watch(stream, config) for stream, config in self._wanted()}
        for watch in self._watches.values():
            if watch.at_work or time.monotonic() < watch.due_s:
                continue
            watch.at_work = True
            search = self._confirm(watch) if watch.found else self._search(watch)
            self._jobs.add(watch, search)

    def _wanted(self) -> Iterator[tuple[TrackedStream, DiscoverConfig]]:
        """The streams whose configuration asks for it."""
        for stream in self._context.table:
            config = stream.source.config.discover
            if config is not None:
                yield stream, config

    def _watch(self, stream: TrackedStream, config: DiscoverConfig) -> _Watch:
        watch = self._watches.get(stream)
        if watch is None:
            return _Watch(stream, config)
        watch.reconfigure(config)
        return watch

    def _search(self, watch: _Watch) -> Slices[Struct]:
        """Find what is new on the newest frame; it is confirmed `lasts_s` later."""
        stream, config = watch.stream, watch.config
        buffer = stream.source.buffer
        watch.due_s = time.monotonic() + (config.every_s if len(buffer) else NO_FRAME_S)
        if len(stream.objects) >= config.max_objects or not len(buffer):
            return Empty()
        frame = buffer.newest()
        found = yield from self._everything(frame, config)
        followed = yield from already_tracked(stream, frame, (one.mask_hw for one in found))
        for i, one in enumerate(found):
            if i in followed:
                continue
            memory, _ = self._context.prompted(frame, Prompt(mask_hw=one.mask_hw))
            watch.found.append(memory)
            yield
        if watch.found:
            watch.due_s = frame.mono_ns / 1e9 + config.lasts_s
        return Empty()

    def _confirm(self, watch: _Watch) -> Slices[Struct]:
        """Follow what can still be seen on the newest frame."""
        stream, config = watch.stream, watch.config
        watch.due_s = time.monotonic() + config.every_s
        frame = stream.source.buffer.newest()
        if watch.found[0].last_frame == frame.index:  # a camera slower than that: it is waited for
            watch.due_s = time.monotonic() + NO_FRAME_S
            return Empty()
        found, watch.found = watch.found, []
        for memory in found:
            if len(stream.objects) >= config.max_objects:
                continue
            led_on, mask = self._context.propagated(frame, memory)
            if small(mask).any():
                self._follow(stream, frame, led_on, mask, config)
            yield
        return Empty()

    def _everything(self, frame: Frame, config: DiscoverConfig) -> Generator[None, None, list[Found]]:
        """Masks that are large enough, best first."""
        options = SearchOptions(
            points_per_side=config.points_per_side,
            pred_iou_thresh=config.pred_iou_thresh,
            stability_score_thresh=config.stability_score_thresh,
            min_mask_region_area=config.min_area // 4,
        )
        rgb_hwc = imaging.to_rgb(frame.image)
        found = yield from automatic.searched(self._context.engine, rgb_hwc, options)
        large = [one for one in found if one.area >= config.min_area]
        return large[: config.max_objects]

    def _follow(
        self, stream: TrackedStream, frame: Frame, memory: ObjectMemory, mask: ObjectMask, config: DiscoverConfig
    ) -> None:
        """Follow a new thing, unless it has turned out to be something that is followed already."""
        known = [small(near(obj, frame)) for obj in stream.objects.values()]
        if free_slots(self._context, stream) and not matched([small(mask)], known, SAME_IOU):
            self._context.objects.start(stream, frame, memory, mask, expire_s=config.expire_s)
