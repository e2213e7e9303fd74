"""The last seconds of one stream: what was decoded, whether the model saw it or not."""

import threading
from collections.abc import Callable

from tracker.errors import FrameGone, NoFrame
from tracker.images.types import Frame

PINNED_PART = 0.25  # of the buffer's bytes, at most, for pinned frames that are older than its other ones
GRACE_S = 1.0  # the frame that somebody saw can be this much younger than the time that they name


class RollingBuffer:
    """Frames of one stream by capture index and by time. Any thread may use it.

    It keeps at most `seconds` (by the monotonic clock) and `max_bytes` of pictures, and always the newest frame.
    Capture indices grow by one, so that a lookup by index costs nothing and `since` only what it returns.

    A pinned frame stays a while longer, for somebody who looks at it and thinks. `get` still finds it; it counts in
    `nbytes`, and pins beyond PINNED_PART of the bytes lose the oldest ones.

    `why_empty` tells the state of the stream, for who asks before its first frame.
    """

    def __init__(self, seconds: float, max_bytes: int, why_empty: Callable[[], str] = lambda: "connecting") -> None:
        self._why_empty = why_empty
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._frames: dict[int, Frame] = {}  # by capture index, oldest first
        self._oldest = 0
        self._newest = -1
        self._nbytes = 0
        self._pins: dict[int, float] = {}  # capture index -> time.monotonic_ns() until which it is pinned
        self._kept: dict[int, Frame] = {}  # pinned frames that would be gone, oldest first
        self._consumed = -1
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> None:
        """Add the next frame; its index must be the last one's plus one, or anything for the first."""
        with self._changed:
            if self._frames and frame.index != self._newest + 1:
                raise ValueError(f"frame {frame.index} does not follow frame {self._newest}")
            if not self._frames:
                self._oldest = frame.index
            self._frames[frame.index] = frame
            self._newest = frame.index
            self._nbytes += frame.image.nbytes
            self._evict(frame.mono_ns)

    def give_up(self) -> int:
        """Drop the oldest frame, pinned or not, for others' sake. Returns its bytes; 0: the newest stays."""
        with self._changed:
            before_nbytes = self._nbytes
            if not self._kept and self._oldest < self._newest:
                self._evict_oldest()
            if self._nbytes == before_nbytes and self._kept:
                self._drop_kept(min(self._kept))
            return before_nbytes - self._nbytes

    def clear(self) -> None:
        """Drop all frames, for a stream that is gone: what refers to it may take its time to go as well."""
        with self._changed:
            self._frames.clear()
            self._kept.clear()
            self._pins.clear()
            self._oldest, self._nbytes = self._newest + 1, 0

    def get(self, index: int) -> Frame:
        """Raises FrameGone where `index` is not in the buffer, NoFrame where nothing is."""
        with self._changed:
            return self._find(index)

    def pin(self, index: int, seconds: float, now_ns: int) -> None:
        """Keep a frame for `seconds` from now on, whatever comes. Raises FrameGone, NoFrame."""
        with self._changed:
            self._find(index)
            self._pins[index] = max(self._pins.get(index, 0), now_ns + seconds * 1e9)

    def nearest(self, time: float) -> Frame:
        """The frame decoded nearest to `time`, Unix seconds.

        Raises FrameGone where `time` is more than a second older than all frames, NoFrame where there are none.
        """
        with self._changed:
            self._refuse_empty()
            times = [frame.time for frame in self._frames.values()]
            if time < min(times) - GRACE_S:
                raise FrameGone(
                    f"time: {time:.3f} is not in the buffer any more; there: {min(times):.3f} to {max(times):.3f}"
                )
            return min(self._frames.values(), key=lambda frame: abs(frame.time - time))

    def since(self, index: int) -> list[Frame]:
        """All buffered frames after `index`, oldest first; empty where there are none."""
        with self._changed:
            first = max(index + 1, self._oldest)
            return [self._frames[i] for i in range(first, self._newest + 1)]

    def newest(self) -> Frame:
        """Raises NoFrame where nothing was decoded yet."""
        with self._changed:
            self._refuse_empty()
            return self._frames[self._newest]

    def oldest(self) -> Frame:
        """Raises NoFrame where nothing was decoded yet."""
        with self._changed:
            self._refuse_empty()
            return self._frames[self._oldest]

    def __contains__(self, index: int) -> bool:
        return index in self._frames or index in self._kept

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def nbytes(self) -> int:
        return self._nbytes

    @property
    def seconds(self) -> float:
        """From the oldest frame to the newest."""
        with self._changed:
            if not self._frames:
                return 0.0
            return (self._frames[self._newest].mono_ns - self._frames[self._oldest].mono_ns) / 1e9

    def consumed(self, index: int) -> None:
        """The consumer is done with all frames up to `index`: a file that waits for it goes on (`pace: all`)."""
        with self._changed:
            self._consumed = max(self._consumed, index)
            self._changed.notify_all()

    def wait_consumed(self, index: int, cancelled: Callable[[], bool]) -> bool:
        """Block until frame `index` was consumed, or until `cancelled()`. Returns whether it was."""
        with self._changed:
            while self._consumed < index and not cancelled():
                self._changed.wait(0.1)  # seconds; only `cancelled` needs to be asked again
            return self._consumed >= index

    def _find(self, index: int) -> Frame:
        self._refuse_empty()
        frame = self._frames.get(index) or self._kept.get(index)
        if frame is None:
            raise FrameGone(f"frame: {index} is not in the buffer; there: {self._oldest} to {self._newest}")
        return frame

    def _evict(self, now_ns: int) -> None:
        self._pins = {index: until_ns for index, until_ns in self._pins.items() if until_ns > now_ns}
        for index in [index for index in self._kept if index not in self._pins]:
            self._drop_kept(index)
        while self._oldest < self._newest:
            frame = self._frames[self._oldest]
            if now_ns - frame.mono_ns <= self._seconds * 1e9 and self._nbytes <= self._max_bytes:
                return
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        frame = self._frames.pop(self._oldest)
        self._oldest += 1
        if frame.index not in self._pins:
            self._nbytes -= frame.image.nbytes
            return
        self._kept[frame.index] = frame
        while len(self._kept) > 1 and self._kept_nbytes() > self._max_bytes * PINNED_PART:
            self._drop_kept(min(self._kept))

    def _drop_kept(self, index: int) -> None:
        self._nbytes -= self._kept.pop(index).image.nbytes
        self._pins.pop(index, None)

    def _kept_nbytes(self) -> int:
        return sum(frame.image.nbytes for frame in self._kept.values())

    def _refuse_empty(self) -> None:
        if not self._frames:
            raise NoFrame(f"nothing was decoded on this stream yet ({self._why_empty()})")
