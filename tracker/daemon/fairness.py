"""Whose request is answered next: no client gets more than its share of the time between two steps of the model."""

import threading
import time
from collections import OrderedDict, deque

from tracker.sockets.request import Request

REQUESTS_S = 0.05  # of answering without a pause
SHARE = 0.25  # of the time that goes to tracking, for requests beside it
HALF_LIFE_S = 1.0  # of what is remembered of a client's use
FADE_S = 0.05  # between two times that it fades
LIGHT_S = 0.005  # who used less lately is answered even where requests have used up their time
LIGHT_AT_ONCE_S = 0.02  # for those, after a request that took long
NEWCOMER_S = 0.02  # what a client has used that nobody knows: else whoever connects again and again is a light one
MAX_REMEMBERED = 1024  # clients


class FairRequests:
    """Requests that wait, by owner. The owner who used least time lately comes first; while objects are tracked,
    requests get a fifth of the time, so that whoever asks for much does not slow tracking by more than that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_owner: dict[bytes, deque[Request]] = {}
        self._used_s: OrderedDict[bytes, float] = OrderedDict()  # those that asked last at the end
        self._faded_s = time.monotonic()
        self._budget_s = REQUESTS_S
        self._refilled_s = time.monotonic()

    def put(self, request: Request) -> None:
        """From any thread."""
        with self._lock:
            self._fade()
            self._by_owner.setdefault(request.owner, deque()).append(request)
            self._used_s.setdefault(request.owner, NEWCOMER_S)
            self._used_s.move_to_end(request.owner)
            while len(self._used_s) > MAX_REMEMBERED:
                self._used_s.popitem(last=False)

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._by_owner.values()))

    def refill(self, tracking: bool) -> None:
        """Time went by that was not spent on requests."""
        now_s = time.monotonic()
        gained_s = SHARE * (now_s - self._refilled_s)
        self._budget_s = min(REQUESTS_S, self._budget_s + gained_s) if tracking else REQUESTS_S
        self._refilled_s = now_s

    def take(self, light_only: bool = False) -> Request | None:
        """The next request that may be answered now; with `light_only`, of an owner who used little lately."""
        light_only = light_only or self._budget_s <= 0
        with self._lock:
            self._fade()
            while (owner := min(self._by_owner, key=self._used_by, default=None)) is not None:
                if light_only and self._used_by(owner) > LIGHT_S:
                    return None
                request = self._popped(owner)
                if not request.gone:
                    return request
        return None

    def spent(self, owner: bytes, seconds: float) -> None:
        """An answer took so long."""
        self._budget_s -= seconds
        self._refilled_s = time.monotonic()
        with self._lock:
            self._used_s[owner] = self._used_by(owner) + seconds

    def _used_by(self, owner: bytes) -> float:
        return self._used_s.get(owner, NEWCOMER_S)

    def _popped(self, owner: bytes) -> Request:
        waiting = self._by_owner[owner]
        request = waiting.popleft()
        if not waiting:
            del self._by_owner[owner]
        return request

    def _fade(self) -> None:
        now_s = time.monotonic()
        if now_s - self._faded_s < FADE_S:
            return
        kept = 0.5 ** ((now_s - self._faded_s) / HALF_LIFE_S)
        self._faded_s = now_s
        for owner, used_s in self._used_s.items():
            self._used_s[owner] = used_s * kept
