"""Long work in slices, beside tracking: a request whose reply takes many steps of the model."""

import logging
import math
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from tracker.errors import AtCapacity, BadRequest, TrackerError, Unavailable, device_is_lost

log = logging.getLogger(__name__)

MAX_JOBS = 16  # at once; each holds a picture and its features
MAX_JOBS_OF_ONE = 4  # owner

R = TypeVar("R", bound=Struct)
Slices = Generator[None, None, R]  # yields between two slices of the work, returns the reply


class Requester(Protocol):
    """The one who waits for a job's result: a request, or a part of the daemon itself."""

    id: Any
    op: str
    owner: bytes

    @property
    def gone(self) -> bool: ...  # nobody waits any more

    def reply(self, result: Struct, /) -> None: ...

    def fail(self, error: TrackerError, /) -> None: ...


@dataclass(eq=False)
class _Job:
    asker: Requester
    slices: Slices[Struct]


class Jobs:
    """Runs one slice at a time, in turn; `fraction` of the time is theirs while objects are tracked."""

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._jobs: deque[_Job] = deque()
        self._due_s = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def check_room(self, owner: bytes) -> None:
        """Raises AtCapacity where another job would only hold memory and wait."""
        self._drop_gone()
        if sum(job.asker.owner == owner for job in self._jobs) >= MAX_JOBS_OF_ONE:
            raise AtCapacity(
                f"{MAX_JOBS_OF_ONE} requests of yours that take long are at work; wait for one of them"
            )
        if len(self._jobs) >= MAX_JOBS:
            raise AtCapacity(f"{MAX_JOBS} requests that take long are at work; wait for one, or segment.cancel it")

    def add(self, asker: Requester, slices: Slices[Struct]) -> None:
        self._jobs.append(_Job(asker, slices))

    def cancel(self, request_id: Any, owner: bytes) -> None:
        """End a job of `owner`; its request is refused. Raises BadRequest where there is none of that id."""
        for job in self._jobs:
            if job.asker.owner == owner and _same(job.asker.id, request_id):
                self._end(job)
                job.asker.fail(Unavailable("cancelled by segment.cancel"))
                return
        raise BadRequest(f"id: no request {request_id!r} of yours is at work")

    def due_in_s(self) -> float:
        """Seconds until the next slice may run."""
        return max(0.0, self._due_s - time.monotonic()) if self._jobs else math.inf

    def run_slice(self, tracking: bool) -> bool:
        """Returns whether there was one to run now."""
        self._drop_gone()
        started_s = time.monotonic()
        if not self._jobs or (tracking and started_s < self._due_s):
            return False
        self._jobs.rotate(-1)
        self._advance(self._jobs[-1])
        ended_s = time.monotonic()
        spent_s = ended_s - started_s
        others_s = spent_s * (1 - self._fraction) / self._fraction
        self._due_s = ended_s + others_s
        return True

    def _advance(self, job: _Job) -> None:
        """A slice, and the reply where it was the last; raises where the device is lost."""
        try:
            next(job.slices)
            return
        except StopIteration as done:
            job.asker.reply(done.value)
        except TrackerError as error:
            job.asker.fail(error)
        except Exception as error:
            log.exception("%s failed", job.asker.op)
            job.asker.fail(TrackerError(f"{job.asker.op} failed inside the daemon: {type(error).__name__}"))
            if device_is_lost(error):
                raise
        self._jobs.remove(job)

    def _drop_gone(self) -> None:
        for job in [job for job in self._jobs if job.asker.gone]:
            self._end(job)

    def _end(self, job: _Job) -> None:
        job.slices.close()
        self._jobs.remove(job)


def _same(one: Any, other: Any) -> bool:
    """Equal as said on the wire, where true is not 1."""
    return msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)
