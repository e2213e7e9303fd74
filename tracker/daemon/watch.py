"""Ends the process rather than let it be silent: a dead or stuck thread, memory over its bound, a stop that takes
too long."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tracker.threads import NamedThread

log = logging.getLogger(__name__)

LOOK_S = 0.05
STUCK_S = 30.0  # a part that is at one thing for so long will not come back
PATIENCE_S = {"main": 60.0}  # where it is longer: a step of a large model on a CPU takes its time
STOP_S = 2.0  # from the end of the step of the model that was under way
STOP_IN_STEP_S = 10.0  # for that step, which nothing can shorten
SHED_PAUSE_S = 0.5  # what is shut takes a moment to be freed
SHED_TRIES = 6  # each shuts half of the connections; after that they are not what fills the memory


class Part(Protocol):
    """A part that works in a thread of its own and must not die."""

    busy_since_s: float | None

    def is_alive(self) -> bool: ...


class Pulse:
    """The main loop as the watch sees it; `progress` is called whenever it begins something."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self.busy_since_s: float | None = None
        self._progress = progress

    def is_alive(self) -> bool:
        return True  # the process ends with it

    def beat(self) -> None:
        self.busy_since_s = time.monotonic()
        self._progress()

    def rest(self) -> None:
        """Nothing to do for the moment."""
        self.busy_since_s = None


class Peers(Protocol):
    """A socket's connections, to be shut for want of memory, or because they send too fast."""

    def shed(self) -> None: ...

    def look(self) -> None: ...


class Watch:
    """Looks twenty times a second. `fail(why)` is called at most once; `abandon(why)` where ending takes long."""

    def __init__(
        self,
        parts: dict[str, Part],
        peers: Sequence[Peers],
        memory_bytes: int,
        fail: Callable[[str], None],
        abandon: Callable[[str], None],
        in_step: Callable[[], bool],
    ) -> None:
        self._parts = parts
        self._peers = peers
        self._memory_bytes = memory_bytes
        self._fail = fail
        self._abandon = abandon
        self._in_step = in_step
        self._failed = False
        self._shed = 0
        self._shed_s = 0.0
        self._stopping_s: float | None = None
        self._in_step_s = 0.0  # a step was under way then, while the process was to end
        self._ended = threading.Event()
        self._thread = NamedThread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stopping(self) -> None:
        """From now on the process has to end in time. Safe in a signal handler."""
        self._stopping_s = self._stopping_s or time.monotonic()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    # ---------------------------------------------------------------------------------------- the watch's thread

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            if self._stopping_s is not None:
                self._look_at_stop(self._stopping_s)
            why = self._why_end()
            if why is not None and not self._failed:
                self._end_because(why)

    def _why_end(self) -> str | None:
        """Peers are looked at until the process has ended."""
        try:
            return self._fault()
        except Exception as error:
            if not self._failed:
                log.exception("the watch cannot look")
            return f"the watch cannot look: {type(error).__name__}"

    def _end_because(self, why: str) -> None:
        self._failed = True
        log.critical("%s; the process ends", why)
        self._fail(why)

    def _fault(self) -> str | None:
        """What the process has to end for. While it stops, parts end one by one."""
        for peers in self._peers:
            peers.look()
        if self._stopping_s is not None:
            return None
        for name, part in self._parts.items():
            if not part.is_alive():
                return f"the thread {name!r} has died"
            busy_since_s, patience_s = part.busy_since_s, PATIENCE_S.get(name, STUCK_S)
            if busy_since_s is not None and time.monotonic() - busy_since_s > patience_s:
                return f"the thread {name!r} has been stuck for {patience_s:g} s"
        return self._memory_fault()

    def _memory_fault(self) -> str | None:
        if resident_bytes() <= self._memory_bytes:
            self._shed = 0
            return None
        if time.monotonic() - self._shed_s < SHED_PAUSE_S:
            return None
        self._shed_s = time.monotonic()
        give_back_memory()  # up to a hundred megabytes where streams and objects come and go
        used = resident_bytes()
        if used <= self._memory_bytes:
            return None
        if self._shed == SHED_TRIES:
            return f"{used >> 20} MiB are resident, over limits.memory_mib ({self._memory_bytes >> 20})"
        log.error("%d MiB are resident, over limits.memory_mib: the newest connections are shut", used >> 20)
        self._shed += 1
        for peers in self._peers:
            peers.shed()
        return None

    def _look_at_stop(self, stopping_s: float) -> None:
        now_s = time.monotonic()
        if self._in_step():
            self._in_step_s = now_s
            late = now_s - stopping_s > STOP_IN_STEP_S
        else:
            late = now_s - max(stopping_s, self._in_step_s) > STOP_S
        if late:
            log.critical("stopping took more than %.0f s; what is left is abandoned", now_s - stopping_s)
            self._ended.set()
            self._abandon("the stop took too long")


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CGROUPS = Path("/sys/fs/cgroup")
_last_resident_bytes = 0


def resident_bytes() -> int:
    """Resident memory of this process; the last known figure where no descriptor is left to read it."""
    global _last_resident_bytes
    with contextlib.suppress(OSError):
        # Twenty times a second, and a file object takes ten times as long.
        fd = os.open("/proc/self/statm", os.O_RDONLY)
        try:
            pages = int(os.read(fd, 128).split()[1])
        finally:
            os.close(fd)
        _last_resident_bytes = pages * _PAGE_BYTES
    return _last_resident_bytes


def memory_bound(memory_mib: int | None) -> int:
    """Bytes: what the configuration says, else three quarters of the machine's or the control group's memory."""
    if memory_mib is not None:
        return memory_mib * 2**20
    bounds = [os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES, *control_group_bounds(Path("/proc/self/cgroup"), _CGROUPS)]
    return min(bounds) * 3 // 4


def control_group_bounds(own: Path, mounted: Path) -> Iterator[int]:
    """Bytes: `memory.max` of the process's control group and of all above it, where they have one. `own` is
    /proc/PID/cgroup, `mounted` where the groups are."""
    path = ""
    with contextlib.suppress(OSError):
        path = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), "")
    folder = mounted / path.lstrip("/")
    for group in (folder, *folder.parents):
        if group.is_relative_to(mounted):
            with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
                yield int((group / "memory.max").read_text())


def give_back_memory() -> None:
    """Hand what was freed back to the system: the C library keeps it otherwise."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
