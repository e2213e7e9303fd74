"""Threads that the system knows by their names: `top -H` and /proc show which part of the daemon works."""

import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

STOP_S = 1.0
T = TypeVar("T")


class NamedThread(threading.Thread):
    """A thread whose name, as far as its first 15 bytes, is the system's name for it too."""

    def run(self) -> None:
        with contextlib.suppress(OSError):  # a locked-down /proc costs the name, not the thread
            Path("/proc/thread-self/comm").write_bytes(self.name.encode()[:15])
        super().run()


class TaskThread(ABC, Generic[T]):
    """A part that does tasks one after the other, in a thread of its own. At most `at_most` wait."""

    def __init__(self, name: str, at_most: int) -> None:
        self.busy_since_s: float | None = None  # for whoever watches it
        self._tasks: queue.Queue[T | None] = queue.Queue(at_most)
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

    @abstractmethod
    def _run(self) -> None:
        """The thread: do each of `_taken`."""

    def _taken(self) -> Iterator[T]:
        """The tasks as they come, until `stop`."""
        while (task := self._tasks.get()) is not None:
            self.busy_since_s = time.monotonic()
            yield task
            self.busy_since_s = None
