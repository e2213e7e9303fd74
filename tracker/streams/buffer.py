"""The last seconds of one stream: what was decoded, whether the model saw it or not."""

import threading
from collections.abc import Callable

from tracker.errors import FrameGone, NoFrame
from tracker.types import Frame

GRACE_S = 1.0  # the frame that somebody saw can be this much younger than the time that they name


class RollingBuffer:
    """Frames of one stream by capture index and by time. Any thread may use it.

    It keeps at most `seconds` (by the monotonic clock) and `max_bytes` of pictures, and always the newest frame.
    Capture indices grow by one, so that a lookup by index costs nothing and `since` only what it returns.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._frames: dict[int, Frame] = {}  # by capture index, oldest first
        self._oldest = 0
        self._newest = -1
        self._nbytes = 0
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

    def get(self, index: int) -> Frame:
        """Raises FrameGone where `index` is not in the buffer, NoFrame where nothing is."""
        with self._changed:
            self._refuse_empty()
            try:
                return self._frames[index]
            except KeyError:
                raise FrameGone(
                    f"frame: {index} is not in the buffer; there: {self._oldest} to {self._newest}"
                ) from None

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
        return index in self._frames

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

    def _evict(self, now_ns: int) -> None:
        while self._oldest < self._newest:
            frame = self._frames[self._oldest]
            if now_ns - frame.mono_ns <= self._seconds * 1e9 and self._nbytes <= self._max_bytes:
                return
            del self._frames[self._oldest]
            self._nbytes -= frame.image.nbytes
            self._oldest += 1

    def _refuse_empty(self) -> None:
        if not self._frames:
            raise NoFrame("frame: nothing was decoded on this stream yet")
