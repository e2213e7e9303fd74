"""A summary for the status message and for `systemctl status`."""

from collections import deque
from collections.abc import Iterable

import numpy as np

from tracker.protocol.replies import StepTimes
from tracker.tracking.state import TrackedStream

NAMED = 3  # streams that are not well; the others are counted
WELL = ("live", "paused", "ended")


def status_line(streams: Iterable[TrackedStream], problem: str | None) -> str:
    """One line; `problem` is why the configuration could not be applied last."""
    streams = list(streams)
    sources = [stream.source for stream in streams]
    live = [source for source in sources if source.state == "live"]
    unwell = [source for source in sources if source.state not in WELL]
    objects = sum(len(stream.objects) for stream in streams)
    parts = [f"{len(live)} of {len(streams)} streams live, {objects} objects"]
    parts += [f"{source.name} {source.state}{_because(source.error)}" for source in unwell[:NAMED]]
    if len(unwell) > NAMED:
        parts.append(f"{len(unwell) - NAMED} more are not live")
    if problem is not None:
        parts.append(f"the configuration was not applied: {problem}")
    return "; ".join(parts)


def _because(error: str | None) -> str:
    return "" if error is None else f": {error}"


def step_times(steps_ms: deque[tuple[float, float]]) -> StepTimes:
    """Times of steps of the model: by the clock, and of the processor."""
    if not steps_ms:
        return StepTimes()
    wall_ms, cpu_ms = np.array(steps_ms).T
    p50, p99, longest = np.percentile(wall_ms, [50, 99, 100]).tolist()
    return StepTimes(count=len(wall_ms), p50_ms=p50, p99_ms=p99, max_ms=longest, cpu_ms=float(cpu_ms.sum()))
