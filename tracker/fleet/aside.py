"""Work on files in a thread of its own: a share that does not answer holds up no stream.

Not `asyncio.to_thread`: the end of the process waits for its threads, and of this one for none.
"""

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from tracker.threads import NamedThread

T = TypeVar("T")


class Aside:
    """One piece of work after the other, in the order in which they were begun."""

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        NamedThread(target=self._run, name="files", daemon=True).start()

    def close(self) -> None:
        """What was begun is done before; nobody waits for that."""
        self._pieces.put(None)

    def begin(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Its result. One that is cancelled is not begun any more, and goes on to its end where it was."""
        future: Future[T] = Future()

        def do() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - for who waits for it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._pieces.put(do)
        return asyncio.wrap_future(future)

    def _run(self) -> None:
        while (do := self._pieces.get()) is not None:
            do()
