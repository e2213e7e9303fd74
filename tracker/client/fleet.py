"""A stream of a fleet, wherever it is: its box is looked up in NATS, and followed when the stream moves."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import zmq
from msgspec import Struct

from tracker.client.client import Subscription
from tracker.client.connection import Identity
from tracker.client.directory import Directory
from tracker.client.messages import Message
from tracker.client.requests import Request
from tracker.client.voices import (
    Voice,
    Voices,
    changes_objects,
    check_subscription,
    identity_at,
    may_be_asked_again,
    stored,
    stream_of,
)
from tracker.client.whereabouts import FOLLOW_S
from tracker.errors import Timeout, UnknownStream

T = TypeVar("T")
R = TypeVar("R", bound=Struct)


def call(directory: Directory, ask: Request[R], who: Identity, send: Callable[[Request[R], str, Identity], R]) -> R:
    """Have the box that has the stream answer; its next one, where it moved on the way."""
    stream = stream_of(ask.operation.name, ask.args)
    where = directory.wait(lambda there: there.where(stream))
    try:
        result = send(ask, where.control, identity_at(who, where))
    except (UnknownStream, Timeout) as error:
        if not may_be_asked_again(error, ask):
            raise
        before, why = where, error
        where = directory.wait(lambda there: there.moved_from(before, why))
        result = send(ask, where.control, identity_at(who, where))
    if not changes_objects(result):
        return result
    return stored(result, directory.wait(lambda there: there.save(where)))


class FleetSubscription(Subscription[T]):
    """Of one stream of a fleet, across its moves: the first message of a new owner says `moved`."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        directory: Directory,
        who: Identity,
        stream: str | None,
        topics: Iterable[str],
        timeout_s: float | None,
        pick: Callable[[Message], T],
    ) -> None:
        """Raises UnknownStream, ConfigError, and ValueError and BadRequest for what no fleet can tell."""
        topics = tuple(topics)
        self._name = check_subscription(stream, topics, timeout_s)
        self._directory = directory
        self._timeout_s = timeout_s
        self._pick = pick
        self._voices = Voices(context, who, self._name, topics)
        self._voices.follow(directory.wait(lambda there: there.where(self._name)))

    def close(self) -> None:
        self._voices.close()

    def __next__(self) -> T:
        began_s = time.monotonic()
        while not self._voices.is_closed:
            self._voices.follow(self._directory.known(self._name))
            for voice in self._ready():
                message = self._voices.accepted(voice, voice.socket.recv_multipart())
                if message is not None:
                    return self._pick(message)
            if self._timeout_s is not None and time.monotonic() - began_s > self._timeout_s:
                raise self._voices.silent(self._timeout_s)
        raise StopIteration

    def _ready(self) -> "list[Voice[zmq.Socket[bytes]]]":
        """Who has something to say, the newest owner first."""
        poller = zmq.Poller()
        voices = self._voices.newest_first()
        for voice in voices:
            poller.register(voice.socket, zmq.POLLIN)
        ready = dict(poller.poll(round(FOLLOW_S * 1000)))
        return [voice for voice in voices if voice.socket in ready]
