"""When pictures are due, and which ones are too many."""

import time

MAX_LATE_S = 1.0  # a file that is later than this does not try to catch up
MAX_GAP_S = 10.0  # a longer one between two pictures of a file is a broken timestamp


class Pacer:
    """When a file's pictures are due by the monotonic clock, one after the other, loops and pauses included."""

    def __init__(self) -> None:
        self._due_ns: int | None = None
        self._pts: float | None = None

    def next_ns(self, pts: float | None, interval_s: float) -> int:
        """The next picture's due time; `interval_s` stands in where timestamps are missing or broken."""
        gap_s = pts - self._pts if pts is not None and self._pts is not None else interval_s
        if not 0 < gap_s <= MAX_GAP_S:
            gap_s = interval_s
        now_ns = time.monotonic_ns()
        due_ns = now_ns if self._due_ns is None else self._due_ns + round(gap_s * 1e9)
        self._due_ns = now_ns if now_ns - due_ns > MAX_LATE_S * 1e9 else due_ns
        self._pts = pts
        return self._due_ns


class RateCap:
    """Which frames to keep so that there are at most `fps` in a second, evenly."""

    def __init__(self, fps: float | None) -> None:
        self._interval_s = 1 / fps if fps else 0.0
        self._due_s: float | None = None

    def take(self, at_s: float) -> bool:
        if not self._interval_s:
            return True
        due_s = self._due_s if self._due_s is not None else at_s
        if at_s < due_s - 1.1 * self._interval_s:  # the clock went back
            due_s = at_s
        if at_s < due_s - 0.1 * self._interval_s:  # a tenth early is on time: cameras are not even
            return False
        self._due_s = max(due_s, at_s - self._interval_s) + self._interval_s
        return True
