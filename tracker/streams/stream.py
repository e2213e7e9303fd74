"""One stream: a thread that keeps its source open and fills its rolling buffer; its state and its counters."""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from msgspec import UNSET, UnsetType

from tracker.config import StreamConfig
from tracker.errors import SourceError
from tracker.images.types import Frame
from tracker.protocol.fields import StreamState
from tracker.streams.arrivals import Arrivals
from tracker.streams.budget import BufferBudget
from tracker.streams.buffer import RollingBuffer
from tracker.streams.course import Course
from tracker.streams.opening import Admitted
from tracker.streams.pacing import Pacer
from tracker.streams.picture import Misconfigured, Picture, Source
from tracker.streams.sources import open_source, stamped
from tracker.streams.urls import is_live, redacted
from tracker.threads import NamedThread

# Beside one busy Python thread, a decoder at Python's own 5 ms waits for the GIL ten times per frame.
SWITCH_INTERVAL_S = 0.0002
STALL_S = 2.0
STALL_INTERVALS = 3.0
# A silent camera is given up later than it is called stalled: reconnecting costs it a discontinuity.
GIVE_UP_STALLS = 2.0

log = logging.getLogger(__name__)


class Stream:
    """A source that is kept going: opened, paced, stamped, buffered, and opened again after a fault.

    `on_frame(frame)` is called for every frame when it is in the buffer, `on_event(stream, event, details)` for
    everything that happens to the stream ("stream_live", …, see the protocol's events), both from this stream's own
    threads, events in order: neither may block. Texts never hold credentials. `admitted`: what a client's
    source may open; without it, whatever it names. `budget`: what its buffer and those of other streams share.
    """

    def __init__(
        self,
        name: str,
        config: StreamConfig,
        on_frame: Callable[[Frame], None],
        on_event: Callable[["Stream", str, dict[str, Any]], None],
        *,
        admitted: Admitted | None = None,
        budget: BufferBudget | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.url = redacted(config.url)
        self._course = Course(name, self._publish_event)
        self._changed = self._course.changed  # guards everything below
        self.buffer = RollingBuffer(config.buffer.seconds, round(config.buffer.mib * 2**20), self._course.why_empty)
        self._budget = budget
        if budget is not None:
            budget.join(self.buffer)
        self.size_wh: tuple[int, int] | None = None
        self.epoch = 0
        self.decoded = 0  # frames; the newest one's capture index plus one
        self.numbered_from = 0  # the capture index of this process's first frame
        self.corrupt = 0  # frames that the decoder marked, and packets that gave none
        self.reconnects = 0  # times that frames came back
        self.owner: str | UnsetType = UNSET  # who placed it here, said in all its messages
        self._admitted = admitted
        self._on_frame = on_frame
        self._on_event = on_event
        self._nominal_fps: float | None = config.fps
        self._live = is_live(config)
        self._kept = Arrivals()  # frames of this connection
        self._arrived = Arrivals()  # the same with the pictures that `fps` leaves out
        self._reopened = False
        self._notice: str | None = None
        self._due = Pacer()
        self._threads = [NamedThread(target=self._run, name=f"source-{name}", daemon=True)]
        if self._live:
            self._threads.append(NamedThread(target=self._watch, name=f"watch-{name}", daemon=True))

    @property
    def state(self) -> StreamState:
        return self._course.state

    @property
    def error(self) -> str | None:
        """Why it is not live; None while it is."""
        return self._course.error

    @property
    def fps(self) -> float:
        """Frames per second: measured on cameras, a file's own rate; 0 while unknown."""
        measured = self._kept.rate if self._live else None
        return measured or self._nominal_fps or 0.0

    def go_on_from(self, decoded: int, epoch: int) -> None:
        """Count on from there, before the start: these numbers were given by an earlier source of this name."""
        self.decoded = self.numbered_from = decoded
        self.epoch = epoch
        self.buffer.consumed(decoded - 1)

    def take_counts(self, before: "Stream") -> None:
        """This source takes the place of `before`: totals never go back."""
        self.corrupt, self.reconnects = before.corrupt, before.reconnects
        self.numbered_from = before.numbered_from

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """A camera is let go; a file stays where it is."""
        self._course.pause()

    def resume(self) -> None:
        """Go on after a pause; after an end or a failure, from the start."""
        self._course.resume()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Ask the thread to end, and wait at most `timeout_s` for it (0: not at all). Returns whether it has ended.

        A thread inside FFmpeg on a silent camera ends when its time-out comes, which nothing can shorten.
        """
        self._course.stop()
        deadline_s = time.monotonic() + (timeout_s if timeout_s is not None else threading.TIMEOUT_MAX / 2)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # The source's thread, from here on.

    def _run(self) -> None:
        while self._course.wait_while("pause", "rest"):
            try:
                self._follow_source()
            except Exception as error:  # noqa: BLE001
                self._fail(error)

    def _follow_source(self) -> None:
        try:
            if self._read():
                self._at_end()
        except SourceError as error:
            self._course.failed(str(error), hopeless=isinstance(error, Misconfigured) or not self._live)

    def _fail(self, error: Exception) -> None:
        """An error of this program's own costs this stream alone, which says so and can be resumed. The exception's
        text may hold the URL with its password."""
        log.error("stream %s: %s\n%s", self.name, type(error).__name__, _where(error))
        try:
            self._course.failed(f"internal error: {type(error).__name__}", hopeless=True)
        except Exception as worse:  # noqa: BLE001 - even saying so fails: `streams.list` shows it
            log.error("stream %s: %s\n%s", self.name, type(worse).__name__, _where(worse))

    def _read(self) -> bool:
        """Open the source and take its pictures until it ends (True) or somebody wants otherwise."""
        with open_source(self.config, self._stall_s() * GIVE_UP_STALLS, admitted=self._admitted) as source:
            self._opened(source)
            for picture in source:
                if picture is None:
                    going_on = self._pass_over(source)
                else:
                    going_on = self._await_turn(picture, source) and self._take(picture, source)
                if not going_on:
                    return False
        return True

    def _opened(self, source: Source) -> None:
        with self._changed:
            self._live = source.live
            self._nominal_fps = source.fps
            self._reopened = self.decoded > 0
            self._kept.clear()
            self._arrived.clear()
        if source.live and self.config.pace == "all":
            raise Misconfigured(f"{self.url}: pace: all is for files; a camera does not wait")
        if source.notice and source.notice != self._notice:
            self._notice = source.notice
            log.warning("stream %s: %s", self.name, source.notice)

    def _await_turn(self, picture: Picture, source: Source) -> bool:
        """Hold a file's picture until it is due, or until the one before it was taken. False: stop reading."""
        if source.live:
            return self._course.wish == "run"
        if not self._course.wait_while("pause"):
            return False
        if self.config.pace == "real":
            self._course.wait_until(self._due.next_ns(picture.pts, 1 / (source.fps or 25.0)))
        else:
            self.buffer.wait_consumed(self.decoded - 1, cancelled=lambda: self._course.wish == "stop")
        return self._course.wait_while("pause")

    def _pass_over(self, source: Source) -> bool:
        """A picture that `fps` leaves out shows that the stream lives. False: stop reading."""
        with self._changed:
            if self._live and self._course.wish == "run":
                self._arrived.add(time.monotonic_ns())
                self._course.came()
        return self._course.wish == "run" if source.live else self._course.wait_while("pause")

    def _take(self, picture: Picture, source: Source) -> bool:
        """Stamp a picture, put it into the buffer, and say what has changed."""
        with self._changed:
            if self._course.wish not in ("run", "pause") or (self._course.wish == "pause" and source.live):
                return False
            size_wh = picture.image.size_wh
            resized = self.size_wh not in (None, size_wh)
            if picture.corrupt and resized:
                self.corrupt += 1  # damaged headers announce sizes that the camera never had
                return True
            self.epoch += resized or self._reopened
            self.reconnects += self._reopened and self._live
            self._reopened = False
            frame = self._keep(picture, source)
            if resized:
                self._publish_event("stream_resized", {})
            self._course.came()
        if frame.corrupt:
            self.buffer.consumed(frame.index)  # nobody will: the model is not shown it
        self._on_frame(frame)
        return True

    def _keep(self, picture: Picture, source: Source) -> Frame:
        """Number a picture and put it into the buffer."""
        frame = stamped(picture, self.name, self.decoded, self.epoch, source.pixel_aspect)
        self.buffer.put(frame)
        if self._budget is not None:
            self._budget.settle()
        self.size_wh = frame.size_wh
        self.decoded += 1
        self.corrupt += picture.corrupt + source.lost
        source.lost = 0
        self._kept.add(frame.mono_ns)
        self._arrived.add(frame.mono_ns)
        return frame

    def _at_end(self) -> None:
        if self._live:
            raise SourceError(f"{self.url}: the camera ended the stream")
        if self.config.loop:
            return
        self._course.ended()

    def _watch(self) -> None:
        """See a stall while the source's thread blocks inside FFmpeg."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._course.wish == "stop", 0.25):
                try:
                    self._look_for_stall()
                except Exception as error:  # noqa: BLE001
                    self._fail(error)

    def _look_for_stall(self) -> None:
        silent_s = self._arrived.silent_s
        if not self._live or self.state != "live" or silent_s is None:
            return
        if silent_s > self._stall_s():
            self._course.stalled(silent_s)

    def _stall_s(self) -> float:
        """How long a camera may be silent: by the rate at which it sends, or by the one that is expected of it."""
        fps = self._arrived.rate or self.config.fps or self._nominal_fps
        return max(STALL_S, STALL_INTERVALS / fps) if fps else STALL_S

    def _publish_event(self, event: str, details: dict[str, Any]) -> None:
        if self.size_wh:
            details["size"] = list(self.size_wh)
        self._on_event(self, event, details)


def _where(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__))
