"""A summary for the status message and for `systemctl status`."""

import time
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from tracker.config.wording import counted
from tracker.daemon.systemd import Notifier
from tracker.engine.engine import Engine
from tracker.protocol.messages import DeviceMemory, Status, StepTimes
from tracker.sockets.publisher import Publisher
from tracker.threads import Failures
from tracker.tracking.records import stream_record
from tracker.tracking.state import StreamTable, TrackedStream

EVERY_S = 1.0
NAMED = 3  # streams that are not well; the others are counted
WELL = ("live", "paused", "ended")

StepMs = tuple[float, float]  # by the clock, of the processor


class StatusTeller:
    """Tells subscribers and systemd once a second. It belongs to the main loop.

    `take_times_ms()` gives the steps since the last call; `problem()` why the configuration could not be applied.
    """

    def __init__(
        self,
        table: StreamTable,
        engine: Engine,
        publisher: Publisher,
        notifier: Notifier,
        take_times_ms: Callable[[], deque[StepMs]],
        problem: Callable[[], str | None],
        failures: Failures,
    ) -> None:
        self._table = table
        self._engine = engine
        self._publisher = publisher
        self._notifier = notifier
        self._take_times_ms = take_times_ms
        self._problem = problem
        self._failures = failures
        self._due_s = 0.0

    def tick(self) -> None:
        """Tell it if it is due."""
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + EVERY_S
        with self._failures.spared("status"):
            self._publisher.publish("status/", self._status())
            self._notifier.status(status_line(self._table, self._problem()))

    def _status(self) -> Status:
        return Status(
            time=time.time(),
            streams=[stream_record(stream) for stream in self._table],
            memory=DeviceMemory(**self._engine.memory()),
            steps=step_times(self._take_times_ms()),
        )


def status_line(streams: Iterable[TrackedStream], problem: str | None) -> str:
    """One line; `problem` is why the configuration could not be applied last."""
    streams = list(streams)
    sources = [stream.source for stream in streams]
    live = [source for source in sources if source.state == "live"]
    unwell = [source for source in sources if source.state not in WELL]
    objects = sum(len(stream.objects) for stream in streams)
    parts = [f"{len(live)} of {counted(len(streams), 'stream')} live, {counted(objects, 'object')}"]
    parts += [f"{source.name} {source.state}{_because(source.error)}" for source in unwell[:NAMED]]
    if len(unwell) > NAMED:
        parts.append(f"{len(unwell) - NAMED} more are not live")
    if problem is not None:
        parts.append(f"the configuration was not applied: {problem}")
    return "; ".join(parts)


def _because(error: str | None) -> str:
    return "" if error is None else f": {error}"


def step_times(steps_ms: deque[StepMs]) -> StepTimes:
    """Times of steps of the model: by the clock, and of the processor."""
    if not steps_ms:
        return StepTimes()
    wall_ms, cpu_ms = np.array(steps_ms).T
    p50, p99, longest = np.percentile(wall_ms, [50, 99, 100]).tolist()
    return StepTimes(count=len(wall_ms), p50_ms=p50, p99_ms=p99, max_ms=longest, cpu_ms=float(cpu_ms.sum()))
