"""When the newest pictures of a connection came, and how fast they come."""

import time
from collections import deque

KEPT = 32  # moments


class Arrivals:
    """Moments by the monotonic clock. One thread adds; any may ask."""

    def __init__(self) -> None:
        self._moments_ns: deque[int] = deque(maxlen=KEPT)

    def add(self, moment_ns: int) -> None:
        self._moments_ns.append(moment_ns)

    def clear(self) -> None:
        """A new connection: its rate is not that of the one before."""
        self._moments_ns.clear()

    def __len__(self) -> int:
        return len(self._moments_ns)

    @property
    def rate(self) -> float | None:
        """Pictures per second; None before the second one."""
        moments_ns = list(self._moments_ns)
        if len(moments_ns) < 2:
            return None
        span_ns = moments_ns[-1] - moments_ns[0]
        return (len(moments_ns) - 1) * 1e9 / span_ns if span_ns > 0 else None

    @property
    def silent_s(self) -> float | None:
        """Since the newest one; None where none came yet."""
        moments_ns = list(self._moments_ns)
        return (time.monotonic_ns() - moments_ns[-1]) / 1e9 if moments_ns else None
