"""Threads that the system knows by their names, that say why they end, and work whose failures end nothing."""

import contextlib
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from tracker.errors import device_is_lost

log = logging.getLogger(__name__)

STOP_S = 1.0
T = TypeVar("T")


class Failures:
    """Of work without which all else goes on: logged and counted by the work's name. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last: dict[str, str] = {}  # what was logged, by work

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def add(self, work: str, error: Exception) -> None:
        """Logged at once where it is news; the same error again only for who debugs."""
        text = repr(error)
        with self._lock:
            self._counts[work] += 1
            is_news = self._last.get(work) != text
            self._last[work] = text
        level = logging.ERROR if is_news else logging.DEBUG
        log.log(level, "%s failed; all else goes on", work, exc_info=error)

    @contextlib.contextmanager
    def spared(self, work: str) -> Iterator[None]:
        """What raises in the block ends the block alone, but for a lost device: with that nothing else goes on."""
        try:
            yield
        except Exception as error:
            if device_is_lost(error):
                raise
            self.add(work, error)


class NamedThread(threading.Thread):
    """A thread whose name, as far as its first 15 bytes, is the system's name for it too.

    Where what it runs raises, the log says so, and the thread is dead: who needs it looks at `is_alive`.
    """

    def run(self) -> None:
        with contextlib.suppress(OSError):  # a locked-down /proc costs the name, not the thread
            Path("/proc/thread-self/comm").write_bytes(self.name.encode()[:15])
        try:
            super().run()
        except BaseException:
            log.critical("the thread %r has died", self.name, exc_info=True)


class TaskThread(ABC, Generic[T]):
    """A part that does tasks one after the other, in a thread of its own. At most `at_most` wait.

    One that raises costs the others nothing; it is told to `failures` under the part's name.
    """

    def __init__(self, name: str, at_most: int, failures: Failures) -> None:
        self.busy_since_s: float | None = None  # for whoever watches it
        self._tasks: queue.Queue[T | None] = queue.Queue(at_most)
        self._name = name
        self._failures = failures
        self._thread = NamedThread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What waits is done before; not where that takes more than a moment."""
        with contextlib.suppress(queue.Full):
            self._tasks.put(None, timeout=STOP_S)
            self._thread.join(STOP_S)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def put(self, task: T) -> bool:
        """Have it done; never waits. Returns whether there was room."""
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            return False
        return True

    # ------------------------------------------------------------------------------------------ its own thread

    @abstractmethod
    def _do(self, task: T) -> None:
        """One task."""

    def _begin(self) -> None:
        """Before the first task."""

    def _end(self) -> None:
        """After the last one."""

    def _run(self) -> None:
        try:
            with self._failures.spared(self._name):
                self._begin()
            while (task := self._tasks.get()) is not None:
                self.busy_since_s = time.monotonic()
                with self._failures.spared(self._name):
                    self._do(task)
                self.busy_since_s = None
        finally:
            self._end()
