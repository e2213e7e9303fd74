"""Waiting for a condition instead of for a time, and what goes on meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 30


def wait_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S, every_s: float = 0.002) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(every_s)


@contextmanager
def in_background(run: Callable[[threading.Event], object]) -> Iterator[None]:
    """`run(done)` in a thread of its own; at the end of the block `done` is set and the thread waited for."""
    done = threading.Event()
    thread = threading.Thread(target=run, args=(done,))
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
