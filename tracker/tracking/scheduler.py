"""The next frame for the model, and its objects. Plain Python: no tensor, no device, no socket.

Live frames first: on a camera the newest one wins and what it passes over is counted; of a file that is read at
`pace: all` every frame is taken.
Objects that were added or corrected in the past are led through the buffered frames to the live edge, in the time
that the live frames leave or, where they leave none, in `catch_up_fraction` of it, with a stride that arrives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker.tracking.state import TrackedObject, TrackedStream

if TYPE_CHECKING:
    from tracker.images.types import Frame

ARRIVE_S = 2.0  # a stride is chosen so that the live edge is reached within about this time
NARROW_S = 60.0  # how long steps keep to the streams that fit: what took the memory may have ended by then
MAX_CREDIT_S = 0.5  # catch-up time saved up while there was nothing to catch up
MEAN_STEP = 0.2  # of a moving mean: how far it goes towards the newest value


@dataclass(frozen=True, slots=True, eq=False)
class ScheduledFrame:
    """One frame, and the objects of its stream that go on to it. Only live work is published."""

    stream: TrackedStream
    frame: Frame
    objects: tuple[TrackedObject, ...]
    live: bool


class Scheduler:
    """Turns streams into batches.

    `streams_per_batch`: how many streams share one step; None for all that have a frame. One at a time keeps frames
    fresh where a batch costs as much as its parts one after the other (a CPU).
    """

    def __init__(self, catch_up_fraction: float, streams_per_batch: int | None) -> None:
        self._fraction = catch_up_fraction
        self._streams_per_batch = streams_per_batch
        self._fitting: int | None = None  # streams, where memory did not suffice for more
        self._fitting_until_s = 0.0
        self._turn = 0.0  # of the stream served last
        self._credit_s = 0.0
        self._catch_up_step_s = 0.05  # a moving mean; the start is a guess that the first steps correct
        self._live_load = 0.0  # part of the wall time that live work takes, a moving mean
        self._last_live_ns = time.monotonic_ns()

    def next_batch(self, streams: Iterable[TrackedStream]) -> list[ScheduledFrame]:
        """The next step's work; empty if there is nothing to do."""
        streams = list(streams)
        live = self._live(streams)
        if live and self._credit_s <= 0:
            return live
        return self._catch_up(streams) or live

    def narrow(self, streams: int) -> None:
        """For a while at most so many streams share a step, for want of memory."""
        self._fitting, self._fitting_until_s = streams, time.monotonic() + NARROW_S

    def spent(self, batch: list[ScheduledFrame], seconds: float) -> None:
        """Take note of the seconds that the step for `batch` took: everything here is decided by them."""
        if not batch[0].live:
            self._credit_s = max(-seconds, self._credit_s - seconds)
            self._catch_up_step_s = _nearer(self._catch_up_step_s, seconds)
            return
        earned_s = seconds * self._fraction / (1 - self._fraction)
        self._credit_s = min(MAX_CREDIT_S, self._credit_s + earned_s)
        now_ns = time.monotonic_ns()
        since_last_ns = max(1, now_ns - self._last_live_ns)
        load = min(1.0, seconds * 1e9 / since_last_ns)
        self._live_load = _nearer(self._live_load, load)
        self._last_live_ns = now_ns

    def _live(self, streams: list[TrackedStream]) -> list[ScheduledFrame]:
        """Start-time fair queueing: a stream's next turn comes the sooner the higher its priority is, and one that
        was silent has no turns saved up."""
        waiting = [work for stream in streams if (work := live_work(stream)) is not None]
        waiting.sort(key=lambda work: max(work.stream.turn, self._turn))
        chosen = waiting[: self._most_streams()]
        for stream in (work.stream for work in chosen):
            self._turn = max(stream.turn, self._turn)
            stream.turn = self._turn + 1 / (1 + stream.source.config.priority)
        return chosen

    def _most_streams(self) -> int | None:
        if time.monotonic() >= self._fitting_until_s:
            self._fitting = None
        return self._fitting or self._streams_per_batch

    def _catch_up(self, streams: list[TrackedStream]) -> list[ScheduledFrame]:
        """One past frame for the object that is furthest behind, and for those that wait with it."""
        behind = [obj for stream in streams for obj in stream.pending()]
        if not behind:
            return []
        last = min(behind, key=_lead)
        frame = self._next_past_frame(last)
        if frame is None:
            return []
        stream = last.stream
        group = [obj for obj in stream.pending() if obj.frame == last.frame]
        return [ScheduledFrame(stream, frame, tuple(group), live=False)]

    def _next_past_frame(self, obj: TrackedObject) -> Frame | None:
        """The next frame at the stride, or the last one before the live edge."""
        frames = frames_behind(obj)
        return frames[min(self._stride(obj, len(frames)), len(frames)) - 1] if frames else None

    def _stride(self, obj: TrackedObject, behind: int) -> int:
        """Frames per step that closes the gap, as it was at its widest, in ARRIVE_S while new frames come."""
        stream = obj.stream.source
        if stream.config.pace == "all":
            return 1  # the file waits
        obj.closing_fps = max(obj.closing_fps, behind / ARRIVE_S)
        steps_per_s = max(self._fraction, 1 - self._live_load) / self._catch_up_step_s
        return max(1, math.ceil((obj.closing_fps + stream.fps) / steps_per_s))


def live_work(stream: TrackedStream) -> ScheduledFrame | None:
    """The frame to publish next on a stream, with all objects that are at the live edge."""
    source = stream.source
    every_frame = source.config.pace == "all"
    if every_frame and stream.pending():
        return None  # nothing is skipped on a file: it waits until everybody is there
    new = source.buffer.since(stream.processed)
    sound = [frame for frame in new if not frame.corrupt]
    if not sound:
        return None
    frame = sound[0] if every_frame else sound[-1]
    objects = [obj for obj in stream.objects.values() if not obj.pending]
    due = [obj for obj in objects if obj.frame < frame.index]
    return ScheduledFrame(stream, frame, tuple(due), live=True)


def _lead(obj: TrackedObject) -> int:
    """Frames that an object is ahead of what its stream has processed; the less, the further behind it is."""
    return obj.frame - obj.stream.processed


def _nearer(mean: float, value: float) -> float:
    """A moving mean with one more value."""
    return mean + MEAN_STEP * (value - mean)


def frames_behind(obj: TrackedObject) -> list[Frame]:
    """The buffered, sound frames between an object and the live edge; none: it has arrived."""
    stream = obj.stream
    return [f for f in stream.source.buffer.since(obj.frame) if f.index <= stream.processed and not f.corrupt]
