"""Waiting for a condition instead of for a time."""

import time
from collections.abc import Callable

PATIENCE_S = 20


def wait_until(condition: Callable[[], bool], patience_s: float = PATIENCE_S, every_s: float = 0.002) -> None:
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(every_s)
