"""Whose request is answered next: no client gets more than its share of the time between two steps of the model."""

import threading
import time
from collections import deque

from tracker.sockets.request import Request

REQUESTS_S = 0.05  # of answering without a pause
HALF_LIFE_S = 1.0  # of what is remembered of a client's use
LIGHT_S = 0.005  # who used less lately is answered even where requests have used up their time
MAX_REMEMBERED = 1024  # clients


class FairRequests:
    """Requests that wait, by owner. The owner who used least time lately comes first; while objects are tracked,
    requests get half of the time, so that whoever asks for much does not slow tracking by more than that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_owner: dict[bytes, deque[Request]] = {}
        self._used_s: dict[bytes, float] = {}
        self._faded_s = time.monotonic()
        self._budget_s = REQUESTS_S
        self._refilled_s = time.monotonic()

    def put(self, request: Request) -> None:
        """From any thread."""
        with self._lock:
            self._by_owner.setdefault(request.owner, deque()).append(request)

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._by_owner.values()))

    def refill(self, tracking: bool) -> None:
        """Time went by that was not spent on requests."""
        now_s = time.monotonic()
        self._budget_s = min(REQUESTS_S, self._budget_s + now_s - self._refilled_s) if tracking else REQUESTS_S
        self._refilled_s = now_s

    def take(self) -> Request | None:
        """The next request that may be answered now."""
        with self._lock:
            owner = min(self._by_owner, key=lambda name: self._used_s.get(name, 0.0), default=None)
            if owner is None or (self._budget_s <= 0 and self._used_s.get(owner, 0.0) > LIGHT_S):
                return None
            waiting = self._by_owner[owner]
            request = waiting.popleft()
            if not waiting:
                del self._by_owner[owner]
            return request

    def spent(self, owner: bytes, seconds: float) -> None:
        """An answer took so long."""
        self._budget_s -= seconds
        self._refilled_s = time.monotonic()
        self._fade()
        self._used_s[owner] = self._used_s.get(owner, 0.0) + seconds

    def _fade(self) -> None:
        now_s = time.monotonic()
        kept = 0.5 ** ((now_s - self._faded_s) / HALF_LIFE_S)
        self._faded_s = now_s
        faded = {owner: used_s * kept for owner, used_s in self._used_s.items() if used_s * kept > LIGHT_S / 10}
        most = sorted(faded, key=faded.__getitem__, reverse=True)[:MAX_REMEMBERED]
        self._used_s = {owner: faded[owner] for owner in most}
