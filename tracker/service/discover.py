"""Watching a stream for new things: everything in a frame is looked for in spare time, and what is new and is still
there a moment later is followed."""

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from tracker import imaging
from tracker.config import DiscoverConfig
from tracker.engine import everything
from tracker.engine.track import Track
from tracker.errors import TrackerError
from tracker.jobs import Jobs, Slices
from tracker.objects import Lane, TrackedObject
from tracker.protocol import Empty
from tracker.service.admission import room
from tracker.service.context import Context
from tracker.service.matching import SAME_IOU, matched, near, small, small_mask
from tracker.types import Bool, Frame, ObjectMask, Prompt

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Watch:
    """One stream that is watched; it is who asks for the searches."""

    lane: Lane
    config: DiscoverConfig
    due_s: float = field(default_factory=time.monotonic)
    found: list[Track] = field(default_factory=list)  # new things of the last search, still to be seen again
    at_work: bool = False
    id: Any = field(default_factory=object)  # like no request's, so that segment.cancel never means it
    op: str = "discover"

    def reply(self, _: Struct) -> None:
        self.at_work = False

    def fail(self, error: TrackerError) -> None:
        self.at_work = False
        log.warning("stream %s: looking for new things failed: %s", self.lane.name, error)


class Discovery:
    """Searches on the streams whose configuration asks for it. It belongs to the engine thread."""

    def __init__(self, context: Context, jobs: Jobs) -> None:
        self._context = context
        self._jobs = jobs
        self._watches: dict[Lane, _Watch] = {}

    def keep_time(self) -> None:
        """Start what is due."""
        lanes = {lane for lane in self._context.world if lane.stream.config.discover is not None}
        self._watches = {lane: w for lane, w in self._watches.items() if lane in lanes}
        for lane in lanes:
            config = lane.stream.config.discover
            assert config is not None
            watch = self._watches.setdefault(lane, _Watch(lane, config))
            if not watch.at_work and time.monotonic() >= watch.due_s:
                watch.at_work = True
                self._jobs.add(watch, self._confirm(watch) if watch.found else self._search(watch))

    def _search(self, watch: _Watch) -> Slices:
        """Find what is new on the newest frame; it is confirmed `lasts_s` later."""
        lane, config = watch.lane, watch.config
        watch.due_s = time.monotonic() + config.every_s
        if len(lane.objects) >= config.max_objects or not len(lane.stream.buffer):
            return Empty()
        frame = lane.stream.buffer.newest()
        masks = yield from self._everything(frame, config)
        known = [small(near(obj, frame)) for obj in lane.objects.values()]
        tracked = matched([small_mask(mask_hw) for mask_hw in masks], known, SAME_IOU)
        features = self._context.features(frame)
        for i, mask_hw in enumerate(masks):
            if i not in tracked:
                prompt = Prompt(mask_hw=mask_hw)
                track, _ = self._context.engine.prompt(Track(), features, 0, frame.index, prompt, frame.size_wh)
                watch.found.append(track)
                yield
        if watch.found:
            watch.due_s = frame.mono_ns / 1e9 + config.lasts_s
        return Empty()

    def _confirm(self, watch: _Watch) -> Slices:
        """Follow what can still be seen on the newest frame."""
        lane, config = watch.lane, watch.config
        watch.due_s = time.monotonic() + config.every_s
        found, watch.found = watch.found, []
        frame = lane.stream.buffer.newest()
        for track in found:
            if track.last_frame == frame.index or len(lane.objects) >= config.max_objects:
                continue
            ((track, mask),) = self._context.engine.propagate(
                [(track, 0, frame.index)], self._context.features(frame)
            )
            if small(mask).any():
                self._follow(lane, frame, track, mask, config)
            yield
        return Empty()

    def _everything(self, frame: Frame, config: DiscoverConfig) -> Generator[None, None, list[Bool]]:
        options = everything.Options(
            points_per_side=config.points_per_side,
            pred_iou_thresh=config.pred_iou_thresh,
            stability_score_thresh=config.stability_score_thresh,
            min_mask_region_area=config.min_area // 4,
        )
        found: tuple[everything.Found, ...] = ()
        for progress in everything.search(self._context.engine, imaging.to_rgb(frame.image), options):
            found = progress.found or ()
            yield
        best = [mask for f in sorted(found, key=lambda f: -f.score) if (mask := f.mask_hw).sum() >= config.min_area]
        return best[: config.max_objects]

    def _follow(self, lane: Lane, frame: Frame, track: Track, mask: ObjectMask, config: DiscoverConfig) -> None:
        """Unless it has turned out to be something that is followed already."""
        known = [small(near(obj, frame)) for obj in lane.objects.values()]
        if room(self._context, lane) and not matched([small(mask)], known, SAME_IOU):
            object_id = lane.claim_id(None)
            self._context.follow(
                TrackedObject(object_id, lane, track, mask, frame.index, frame.size_wh, expire_s=config.expire_s)
            )
