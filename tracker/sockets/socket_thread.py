"""Bound ZeroMQ sockets that live and die in one thread, and the mailbox by which other threads reach it."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

import zmq

from tracker.errors import ConfigError
from tracker.sockets.connections import MAX_AHEAD_BYTES, Connections
from tracker.sockets.guard import Guard
from tracker.sockets.intake import Intake
from tracker.sockets.socket_path import SocketPath
from tracker.sockets.types import Socket
from tracker.threads import NamedThread

T = TypeVar("T")
Options = Mapping[zmq.SocketOption, int]

# A peer that has vanished is dropped after so long. By TCP: ZeroMQ's own heartbeats end the process where a peer
# hangs up that ZeroMQ does not read from just then (an assertion in libzmq 4.3.5).
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_TRIES = 5, 2, 3
# An option of contexts that pyzmq has no name for. With it, a small message that waits keeps the whole buffer which
# it came in, with counters for all that could lie there: 18 kB.
ZERO_COPY_RECV = 10
UNBOUNDED = 0  # messages read ahead; `tracker.sockets.intake` says why, and who bounds them
HANDSHAKE_MS = 5000  # who connects and says nothing is dropped
BACKLOG = 1024  # connections that wait to be taken; who comes beyond is not heard, and tries again after 1 s
LAST_WORDS_MS = 250  # what was sent just before closing may still leave for so long


class Mailbox(Generic[T]):
    """A queue that a zmq poller can wait for: any thread puts, one thread takes. What comes too late is dropped."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False

    def fileno(self) -> int:
        return self._fd

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        with self._lock:
            if not self._closed:
                self._items.append(item)
                os.eventfd_write(self._fd, 1)

    def take(self) -> list[T]:
        """All that is there, at once."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
            items = list(self._items)
            self._items.clear()
            return items

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._fd)


Serve = Callable[[Socket, Connections], None]


class SocketThread:
    """Binds a socket in a thread of its own and runs `serve(socket, connections)` there until that returns."""

    def __init__(
        self,
        name: str,
        kind: int,
        endpoint: str,
        options: Options,
        serve: Serve,
        connections: int,
        guard: Guard | None = None,
        max_ahead_bytes: int = MAX_AHEAD_BYTES,
    ) -> None:
        self.endpoint = endpoint  # once started, as bound: port `*` is a number then
        self._name = name
        self._kind = kind
        self._options = options
        self._serve = serve
        self._max_connections = connections
        self._guard = guard
        self._max_ahead_bytes = max_ahead_bytes
        self._path = SocketPath(Path(endpoint.removeprefix("ipc://"))) if endpoint.startswith("ipc://") else None
        self._intake: Intake | None = None
        self._bound: Future[str] = Future()
        self._thread = NamedThread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Returns once the socket is bound. Raises ConfigError where it cannot be."""
        self._thread.start()
        try:
            self.endpoint = self._bound.result()
        except ConfigError:
            self._thread.join()
            raise

    def join(self, timeout_s: float | None = None) -> None:
        self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def look_at_path(self, socket: Socket) -> None:
        """Bind it again where its file was removed. From its own thread."""
        if self._path is not None:
            self._path.look(socket)

    def look(self) -> None:
        """Shut whoever sends much faster than is read. From one other thread."""
        if self._intake is not None:
            self._intake.look()

    def _run(self) -> None:
        try:
            with bound_socket(self._kind, self.endpoint, self._options, self._guard, self._path) as socket:
                connections = Connections(socket, self._max_connections, self._guard, self._max_ahead_bytes)
                self._intake = connections.intake
                self._bound.set_result(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))
                try:
                    self._serve(socket, connections)
                finally:
                    connections.close()
        except (zmq.ZMQError, OSError) as error:
            if self._bound.done():
                raise
            why, *_ = str(error.strerror).split(" (")  # which says the endpoint once more
            problem = f"{self._name}.endpoint: {self.endpoint} cannot be bound: {why}"
            self._bound.set_exception(ConfigError([problem]))


@contextlib.contextmanager
def bound_socket(
    kind: int, endpoint: str, options: Options, guard: Guard | None, path: SocketPath | None
) -> Iterator[Socket]:
    """A bound socket in a context of its own, at `path` where it is an ipc one. Raises ZMQError or OSError."""
    with contextlib.ExitStack() as stack:
        if path is not None:
            stack.callback(path.release)
        context = zmq.Context()
        context.set(ZERO_COPY_RECV, 0)
        stack.callback(context.term)
        socket = context.socket(kind)
        stack.callback(socket.close, linger=LAST_WORDS_MS)
        _configure(socket, {zmq.IPV6: int("[" in endpoint), **options})
        if guard is not None:
            stack.enter_context(guard.on(context, socket))
        if path is not None:
            path.bind(socket)
        else:
            socket.bind(endpoint)
        yield socket


def _configure(socket: Socket, options: Options) -> None:
    socket.linger = 0
    socket.setsockopt(zmq.RCVHWM, UNBOUNDED)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_TRIES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.BACKLOG, BACKLOG)
    for option, value in options.items():
        socket.setsockopt(option, value)
