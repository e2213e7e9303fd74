"""`AsyncClient`: `Client` for asyncio. Every call has a socket of its own here too."""

import functools
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import zmq.asyncio
from msgspec import Struct

from tracker.client import requests
from tracker.client.connection import (
    TIMEOUT_S,
    TOPICS,
    Identity,
    Silence,
    as_reached,
    check_allowed,
    check_stream,
    checked_timeout,
    close_with_monitor,
    control_endpoint,
    identity,
    no_reply,
    publish_endpoint,
    requester,
    subscriber,
)
from tracker.client.messages import Message, Reader, read_result, subscriptions, tracks_of, write_request
from tracker.client.requests import Request
from tracker.errors import Timeout
from tracker.protocol.messages import Tracks

if TYPE_CHECKING:
    from tracker.client.directory import Directory
    from tracker.client.nats_options import NatsOptions

P = ParamSpec("P")
R = TypeVar("R", bound=Struct)
T = TypeVar("T")


def _awaitable(build: Callable[P, Request[R]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, R]]:
    @functools.wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.call(build(*args, **kwargs))

    return method


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited. Cancelling a call is safe."""

    info = _awaitable(requests.info)
    note = _awaitable(requests.note)
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
    export_object = _awaitable(requests.export_object)
    import_object = _awaitable(requests.import_object)
    segment = _awaitable(requests.segment)
    segment_all = _awaitable(requests.segment_all)
    cancel_segment_all = _awaitable(requests.cancel_segment_all)
    set_zone = _awaitable(requests.set_zone)
    remove_zone = _awaitable(requests.remove_zone)
    zones = _awaitable(requests.zones)
    describe = _awaitable(requests.describe)
    similar = _awaitable(requests.similar)
    watch_for = _awaitable(requests.watch_for)
    watched = _awaitable(requests.watched)
    stop_watching = _awaitable(requests.stop_watching)
    history = _awaitable(requests.history)

    def __init__(
        self,
        control: str | None = None,
        publish: str | None = None,
        timeout_s: float = TIMEOUT_S,
        key: str | Path | None = None,
        fleet: "str | NatsOptions | None" = None,
    ) -> None:
        """As `Client`; but whether there is such a fleet, shows with the first call."""
        self.control = control_endpoint(control)
        self.timeout_s = checked_timeout(timeout_s)
        self._publish = publish_endpoint(publish)
        self._identity = identity(key, in_fleet=fleet is not None)
        self._directory: Directory | None = None
        if fleet is not None:
            from tracker.client.directory import directory_of

            self._directory = directory_of(fleet, wait=False)
        self._context = zmq.asyncio.Context()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its subscriptions too."""
        self._context.destroy(linger=0)
        if self._directory is not None:
            self._directory.close()

    async def call(self, ask: Request[R]) -> R:
        if self._directory is None:
            return await self._ask(ask, self.control, self._identity)
        from tracker.client.asyncio_fleet import call

        return await call(self._directory, ask, self._identity, self._ask)

    async def _ask(self, ask: Request[R], control: str, who: Identity) -> R:
        timeout_s = self.timeout_s if ask.timeout_s is None else checked_timeout(ask.timeout_s)
        with requester(self._context, control, who) as socket:
            await socket.send(write_request(ask))
            if not await socket.poll(int(timeout_s * 1000)):
                raise no_reply(control, timeout_s, who)
            return read_result(await socket.recv(), ask.operation.reply)

    def subscribe(
        self, stream: str | None = None, topics: Iterable[str] = TOPICS, timeout_s: float | None = None
    ) -> "AsyncSubscription[Message]":
        """As `Client.subscribe`; an asynchronous iterator, which connects in `async with` or with the first message
        that is awaited."""
        return self._subscription(stream, tuple(topics), timeout_s, lambda message: message)

    def tracks(self, stream: str | None = None, timeout_s: float | None = None) -> "AsyncSubscription[Tracks]":
        """As `Client.tracks`."""
        return self._subscription(stream, ("tracks",), timeout_s, tracks_of)

    def _subscription(
        self, stream: str | None, topics: tuple[str, ...], timeout_s: float | None, pick: Callable[[Message], T]
    ) -> "AsyncSubscription[T]":
        if self._directory is None:
            return AsyncSubscription(self, stream, topics, timeout_s, pick)
        from tracker.client.asyncio_fleet import AsyncFleetSubscription

        return AsyncFleetSubscription(
            self._context, self._directory, self._identity, stream, topics, timeout_s, pick
        )

    async def connect(self, stream: str | None, topics: Iterable[str]) -> tuple[str, zmq.asyncio.Socket]:
        """Where messages come from, and a socket on which they do; `AsyncSubscription` calls it."""
        endpoint = self._publish or as_reached((await self.info()).publish, self.control)
        check_stream(stream, await self.streams())
        return endpoint, subscriber(self._context, endpoint, stream, topics, self._identity)


class AsyncSubscription(Generic[T]):
    """An endless asynchronous iterator of messages; `close` it, or use it in an `async with`."""

    def __init__(
        self,
        client: AsyncClient,
        stream: str | None,
        topics: tuple[str, ...],
        timeout_s: float | None,
        pick: Callable[[Message], T],
    ) -> None:
        subscriptions(stream, topics)  # what is no topic is refused here already
        self._client = client
        self._stream = stream
        self._topics = topics
        self._timeout_s = timeout_s
        self._pick = pick
        self._reader = Reader()
        self._connected: tuple[zmq.asyncio.Socket, Silence] | None = None

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connected is not None:
            close_with_monitor(self._connected[0])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        socket, silence = await self._connect()
        silence.begin()
        while not await socket.poll(silence.wait_ms()):
            if silence.look_is_due():
                await self._look(socket, silence)
        silence.end()
        return self._pick(self._reader.read(await socket.recv_multipart()))

    async def _connect(self) -> tuple[zmq.asyncio.Socket, Silence]:
        if self._connected is None:
            endpoint, socket = await self._client.connect(self._stream, self._topics)
            self._connected = socket, Silence(endpoint, self._timeout_s)
        return self._connected

    async def _look(self, socket: zmq.asyncio.Socket, silence: Silence) -> None:
        """Raises DaemonGone, Forbidden, or UnknownStream where the stream was removed."""
        check_allowed(socket, silence.endpoint)
        try:
            there = await self._client.streams()
        except Timeout:
            raise silence.gone(self._client.control) from None
        check_stream(self._stream, there)
        silence.end()
