"""`Client`, which threads may share. It needs no torch, OpenCV or PyAV, and loads numpy only for masks.

Every call has a socket of its own. So a client may be shared between threads, and a call that timed out leaves
nothing behind: neither a request that is carried out later, nor a reply that a later call would take for its own.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Self, TypeVar

import zmq
from msgspec import UNSET, Struct

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
from tracker.client.messages import Message, Reader, read_result, tracks_of, write_request
from tracker.client.requests import Request
from tracker.errors import Timeout
from tracker.protocol.messages import Tracks
from tracker.protocol.records import ObjectRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracker.client.directory import Directory
    from tracker.client.nats_options import NatsOptions

P = ParamSpec("P")
R = TypeVar("R", bound=Struct)
T = TypeVar("T")


def mask_of(record: ObjectRecord, size_wh: tuple[int, int]) -> "NDArray[np.bool_]":
    """An object's mask, bool [h, w]: from `mask` where the record carries it, else by filling its outline."""
    from tracker.masks.outline import fill_outline
    from tracker.masks.rle import rle_decode

    if record.mask is not UNSET:
        return rle_decode(record.mask.counts, record.mask.size)
    return fill_outline(record.outline, size_wh)


def _blocking(build: Callable[P, Request[R]]) -> Callable[Concatenate["Client", P], R]:
    @functools.wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(build(*args, **kwargs))

    return method


class Client:
    """Commands a daemon and listens to it. Raises the errors of `tracker.errors`: what the daemon refused, Timeout
    where no reply came, ConfigError for what is no endpoint."""

    info = _blocking(requests.info)
    note = _blocking(requests.note)
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
    export_object = _blocking(requests.export_object)
    import_object = _blocking(requests.import_object)
    segment = _blocking(requests.segment)
    segment_all = _blocking(requests.segment_all)
    cancel_segment_all = _blocking(requests.cancel_segment_all)
    set_zone = _blocking(requests.set_zone)
    remove_zone = _blocking(requests.remove_zone)
    zones = _blocking(requests.zones)
    describe = _blocking(requests.describe)
    similar = _blocking(requests.similar)
    watch_for = _blocking(requests.watch_for)
    watched = _blocking(requests.watched)
    stop_watching = _blocking(requests.stop_watching)
    history = _blocking(requests.history)

    def __init__(
        self,
        control: str | None = None,
        publish: str | None = None,
        timeout_s: float = TIMEOUT_S,
        key: str | Path | None = None,
        fleet: "str | NatsOptions | None" = None,
    ) -> None:
        """`control` is where to ask: TRACKER_CONTROL where it is None, or the default. `publish` is where to
        subscribe: TRACKER_PUBLISH, or what the daemon says. `key` is a key file: the one that TRACKER_KEY
        names where it is None, if any. `fleet` is a NATS server instead of all that: then each stream is asked and
        heard wherever it is, and `durable` in a reply means stored in the fleet. Raises ConfigError."""
        self.control = control_endpoint(control)
        self.timeout_s = checked_timeout(timeout_s)
        self._publish = publish_endpoint(publish)
        self._identity = identity(key, in_fleet=fleet is not None)
        self._directory: Directory | None = None
        if fleet is not None:
            from tracker.client.directory import directory_of

            self._directory = directory_of(fleet, wait=True)
        self._context = zmq.Context()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its subscriptions too."""
        self._context.destroy(linger=0)
        if self._directory is not None:
            self._directory.close()

    def call(self, ask: Request[R]) -> R:
        if self._directory is None:
            return self._ask(ask, self.control, self._identity)
        from tracker.client.fleet import call

        return call(self._directory, ask, self._identity, self._ask)

    def _ask(self, ask: Request[R], control: str, who: Identity) -> R:
        timeout_s = self.timeout_s if ask.timeout_s is None else checked_timeout(ask.timeout_s)
        with requester(self._context, control, who) as socket:
            socket.send(write_request(ask))
            if not socket.poll(int(timeout_s * 1000)):
                raise no_reply(control, timeout_s, who)
            return read_result(socket.recv(), ask.operation.reply)

    def subscribe(
        self, stream: str | None = None, topics: Iterable[str] = TOPICS, timeout_s: float | None = None
    ) -> "Subscription[Message]":
        """Messages of `topics` (tracks, events, status, frames/WIDTH) of one stream, or of all with None.

        They come from a moment after this call on: the subscription has to reach the daemon. Where none comes for
        `timeout_s`, the iterator raises Timeout; DaemonGone where the daemon is away, Forbidden where it
        refuses the key, UnknownStream where there is no such stream (any more).
        """
        return self._subscription(stream, topics, timeout_s, lambda message: message)

    def tracks(self, stream: str | None = None, timeout_s: float | None = None) -> "Subscription[Tracks]":
        """What is tracked on each frame: `subscribe` for those who want nothing else."""
        return self._subscription(stream, ("tracks",), timeout_s, tracks_of)

    def _subscription(
        self, stream: str | None, topics: Iterable[str], timeout_s: float | None, pick: Callable[[Message], T]
    ) -> "Subscription[T]":
        if self._directory is not None:
            from tracker.client.fleet import FleetSubscription

            return FleetSubscription(
                self._context, self._directory, self._identity, stream, topics, timeout_s, pick
            )
        endpoint = self._publish or as_reached(self.info().publish, self.control)
        socket = subscriber(self._context, endpoint, stream, topics, self._identity)
        subscription = Subscription(self, socket, stream, Silence(endpoint, timeout_s), pick)
        try:
            check_stream(stream, self.streams())
        except BaseException:
            subscription.close()
            raise
        return subscription


class Subscription(Generic[T]):
    """An endless iterator of messages; `close` it, or use it in a `with`."""

    def __init__(
        self,
        client: Client,
        socket: "zmq.Socket[bytes]",
        stream: str | None,
        silence: Silence,
        pick: Callable[[Message], T],
    ) -> None:
        self._client = client
        self._socket = socket
        self._stream = stream
        self._silence = silence
        self._pick = pick
        self._reader = Reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        close_with_monitor(self._socket)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        self._silence.begin()
        while not self._socket.poll(self._silence.wait_ms()):
            if self._silence.look_is_due():
                self._look()
        self._silence.end()
        return self._pick(self._reader.read(self._socket.recv_multipart()))

    def _look(self) -> None:
        """Raises DaemonGone, Forbidden, or UnknownStream where the stream was removed."""
        check_allowed(self._socket, self._silence.endpoint)
        try:
            there = self._client.streams()
        except Timeout:
            raise self._silence.gone(self._client.control) from None
        check_stream(self._stream, there)
        self._silence.end()
