"""The client library: `Client` for threads, `AsyncClient` for asyncio. It needs no torch, OpenCV or PyAV.

Every call has a socket of its own. So a client may be shared between threads or tasks, and a call that timed out
leaves nothing behind: neither a request that is carried out later, nor a reply that a later call would take for its
own.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import zmq
import zmq.asyncio
from msgspec import UNSET, Struct
from numpy.typing import NDArray

from tracker.client import requests
from tracker.client.messages import Message, Reader, read_result, subscriptions, write_request
from tracker.client.requests import Request
from tracker.errors import ConfigError, Timeout
from tracker.masks.outline import fill_outline
from tracker.masks.rle import rle_decode
from tracker.protocol.replies import ObjectRecord

P = ParamSpec("P")
R = TypeVar("R", bound=Struct)

CONTROL = "tcp://127.0.0.1:5570"
TIMEOUT_S = 10.0
TOPICS = ("tracks", "events")
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 3000  # a daemon that went away silently is connected to again
RECEIVE_HWM = 1000  # messages kept while the program is busy; after that some are lost, and counted


def mask_of(record: ObjectRecord, size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """An object's mask, bool [h, w]: from `mask` where the record carries it, else by filling its outline."""
    if record.mask is not UNSET:
        return rle_decode(record.mask.counts, record.mask.size)
    return fill_outline(record.outline, size_wh)


def _blocking(build: Callable[P, Request[R]]) -> Callable[Concatenate["Client", P], R]:
    @functools.wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(build(*args, **kwargs))

    return method


def _awaitable(build: Callable[P, Request[R]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, R]]:
    @functools.wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.call(build(*args, **kwargs))

    return method


class Client:
    """Commands a daemon and listens to it. Raises the errors of `tracker.errors`: what the daemon refused, Timeout
    where no reply came, ConfigError for what is no endpoint."""

    info = _blocking(requests.info)
    streams = _blocking(requests.streams)
    add_stream = _blocking(requests.add_stream)
    remove_stream = _blocking(requests.remove_stream)
    pause_stream = _blocking(requests.pause_stream)
    resume_stream = _blocking(requests.resume_stream)
    snapshot = _blocking(requests.snapshot)
    add = _blocking(requests.add)
    add_many = _blocking(requests.add_many)
    refine = _blocking(requests.refine)
    update = _blocking(requests.update)
    remove = _blocking(requests.remove)
    objects = _blocking(requests.objects)
    segment = _blocking(requests.segment)
    segment_all = _blocking(requests.segment_all)
    cancel_segment_all = _blocking(requests.cancel_segment_all)
    history = _blocking(requests.history)

    def __init__(self, control: str = CONTROL, publish: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """`publish` is where to subscribe; the daemon is asked for it where it is None."""
        self.control = control
        self.timeout_s = timeout_s
        self._publish = publish
        self._context = zmq.Context()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its subscriptions too."""
        self._context.destroy(linger=0)

    def call(self, ask: Request[R]) -> R:
        timeout_s = ask.timeout_s or self.timeout_s
        with self._context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            _connect(socket, self.control)
            socket.send(write_request(ask))
            if not socket.poll(int(timeout_s * 1000)):
                raise _no_reply(self.control, timeout_s)
            return read_result(socket.recv(), ask.result)

    def subscribe(
        self, stream: str | None = None, topics: Iterable[str] = TOPICS, timeout_s: float | None = None
    ) -> "Subscription":
        """Messages of `topics` (tracks, events, status, frames/WIDTH) of one stream, or of all with None.

        They come from a moment after this call on: the subscription has to reach the daemon. Where none comes for
        `timeout_s`, the iterator raises Timeout.
        """
        publish = self._publish or self.info().publish
        return Subscription(_subscriber(self._context, publish, stream, topics), publish, timeout_s)


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited. Cancelling a call is safe."""

    info = _awaitable(requests.info)
    streams = _awaitable(requests.streams)
    add_stream = _awaitable(requests.add_stream)
    remove_stream = _awaitable(requests.remove_stream)
    pause_stream = _awaitable(requests.pause_stream)
    resume_stream = _awaitable(requests.resume_stream)
    snapshot = _awaitable(requests.snapshot)
    add = _awaitable(requests.add)
    add_many = _awaitable(requests.add_many)
    refine = _awaitable(requests.refine)
    update = _awaitable(requests.update)
    remove = _awaitable(requests.remove)
    objects = _awaitable(requests.objects)
    segment = _awaitable(requests.segment)
    segment_all = _awaitable(requests.segment_all)
    cancel_segment_all = _awaitable(requests.cancel_segment_all)
    history = _awaitable(requests.history)

    def __init__(self, control: str = CONTROL, publish: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.control = control
        self.timeout_s = timeout_s
        self._publish = publish
        self._context = zmq.asyncio.Context()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its subscriptions too."""
        self._context.destroy(linger=0)

    async def call(self, ask: Request[R]) -> R:
        timeout_s = ask.timeout_s or self.timeout_s
        with self._context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            _connect(socket, self.control)
            await socket.send(write_request(ask))
            if not await socket.poll(int(timeout_s * 1000)):
                raise _no_reply(self.control, timeout_s)
            return read_result(await socket.recv(), ask.result)

    async def subscribe(
        self, stream: str | None = None, topics: Iterable[str] = TOPICS, timeout_s: float | None = None
    ) -> "AsyncSubscription":
        """As `Client.subscribe`; an asynchronous iterator."""
        publish = self._publish or (await self.info()).publish
        return AsyncSubscription(_subscriber(self._context, publish, stream, topics), publish, timeout_s)


class Subscription:
    """An endless iterator of messages; `close` it, or use it in a `with`."""

    def __init__(self, socket: "zmq.Socket[bytes]", endpoint: str, timeout_s: float | None) -> None:
        self._socket = socket
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._reader = Reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        if not self._socket.poll(None if self._timeout_s is None else int(self._timeout_s * 1000)):
            raise _no_message(self._endpoint, self._timeout_s)
        return self._reader.read(self._socket.recv_multipart())


class AsyncSubscription:
    """An endless asynchronous iterator of messages; `close` it, or use it in an `async with`."""

    def __init__(self, socket: zmq.asyncio.Socket, endpoint: str, timeout_s: float | None) -> None:
        self._socket = socket
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._reader = Reader()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            parts = await asyncio.wait_for(self._socket.recv_multipart(), self._timeout_s)
        except TimeoutError:
            raise _no_message(self._endpoint, self._timeout_s) from None
        return self._reader.read(parts)


S = TypeVar("S", bound="zmq.Socket[Any]")


def _subscriber(context: "zmq.Context[S]", endpoint: str, stream: str | None, topics: Iterable[str]) -> S:
    prefixes = subscriptions(stream, topics)
    socket = context.socket(zmq.SUB)
    socket.linger = 0
    socket.rcvhwm = RECEIVE_HWM
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    _connect(socket, endpoint)
    for prefix in prefixes:
        socket.subscribe(prefix)
    return socket


def _connect(socket: "zmq.Socket[Any]", endpoint: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ConfigError([f"{endpoint!r} cannot be connected to: {error.strerror}; try {CONTROL}"]) from None


def _no_reply(endpoint: str, timeout_s: float) -> Timeout:
    return Timeout(f"no reply from {endpoint} within {timeout_s:g} s; is the daemon running there?")


def _no_message(endpoint: str, timeout_s: float | None) -> Timeout:
    return Timeout(f"no message from {endpoint} within {timeout_s} s")
