"""A bound socket that is served in a thread of its own and fed by other threads: what control and publish share."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from tracker.config import LimitsConfig
from tracker.sockets.connections import MAX_AHEAD_BYTES, Connections
from tracker.sockets.guard import Guard
from tracker.sockets.socket_thread import Mailbox, Options, SocketThread
from tracker.sockets.types import Socket

T = TypeVar("T")
DEFAULT_LIMITS = LimitsConfig()
POLL_MS = 250  # until a want of memory, and a key that was taken off the list, are noticed on a silent socket


class SocketServer(Generic[T]):
    """`_serve` runs in the socket's thread; other threads put what is to be sent into `_outbox`, None to end it."""

    def __init__(
        self,
        name: str,
        kind: int,
        endpoint: str,
        options: Options,
        limits: LimitsConfig,
        guard: Guard | None,
        max_ahead_bytes: int = MAX_AHEAD_BYTES,
    ) -> None:
        self.busy_since_s: float | None = None  # while a round of the loop is under way
        self._guard = guard
        self._outbox: Mailbox[T | None] = Mailbox()
        self._shed = threading.Event()
        self._thread = SocketThread(
            name, kind, endpoint, options, self._serve, limits.connections, guard, max_ahead_bytes
        )

    @property
    def endpoint(self) -> str:
        """As bound, once started: port `*` is a number then."""
        return self._thread.endpoint

    def start(self) -> None:
        """Bind and serve. Raises ConfigError where the endpoint cannot be had."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish what waits, close, and join."""
        self._outbox.put(None)
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._outbox.close()

    def is_alive(self) -> bool:
        """Whether it serves those who are connected, and judges who wants to be."""
        return self._thread.is_alive() and (self._guard is None or self._guard.is_alive())

    def waiting(self) -> int:
        """What is to be sent, and has not been taken yet."""
        return len(self._outbox)

    def shed(self) -> None:
        """Shut the newer half of the connections, for want of memory. From any thread; takes effect in a moment."""
        self._shed.set()

    def look(self) -> None:
        """Shut whoever sends much faster than is read. From one other thread."""
        self._thread.look()

    def _serve(self, socket: Socket, connections: Connections) -> None:
        raise NotImplementedError

    def _forget(self, gone: list[int]) -> None:
        """Drop what is kept for connections that went."""
        raise NotImplementedError

    @contextmanager
    def _round(self, socket: Socket, connections: Connections) -> Iterator[None]:
        """One round of the loop, after its wait."""
        self.busy_since_s = time.monotonic()
        self._thread.look_at_path(socket)
        if self._shed.is_set():
            self._shed.clear()
            self._forget(connections.shed())
        yield
        self.busy_since_s = None
