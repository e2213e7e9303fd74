"""`tracker.client.fleet` for asyncio: the same calls and subscriptions, to be awaited."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import zmq.asyncio
from msgspec import Struct

from tracker.client.asyncio_client import AsyncSubscription
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
from tracker.client.whereabouts import FOLLOW_S, Whereabouts
from tracker.errors import Timeout, UnknownStream

A = TypeVar("A")
T = TypeVar("T")
R = TypeVar("R", bound=Struct)


async def call(
    directory: Directory, ask: Request[R], who: Identity, send: Callable[[Request[R], str, Identity], Awaitable[R]]
) -> R:
    """Have the box that has the stream answer; its next one, where it moved on the way."""
    stream = stream_of(ask.operation.name, ask.args)
    where = await _asked(directory, lambda there: there.where(stream))
    try:
        result = await send(ask, where.control, identity_at(who, where))
    except (UnknownStream, Timeout) as error:
        if not may_be_asked_again(error, ask):
            raise
        before, why = where, error
        where = await _asked(directory, lambda there: there.moved_from(before, why))
        result = await send(ask, where.control, identity_at(who, where))
    if not changes_objects(result):
        return result
    return stored(result, await _asked(directory, lambda there: there.save(where)))


async def _asked(directory: Directory, ask: Callable[[Whereabouts], Awaitable[A]]) -> A:
    return await asyncio.wrap_future(directory.future(ask))


class AsyncFleetSubscription(AsyncSubscription[T]):
    """Of one stream of a fleet, across its moves; it connects in `async with` or with the first message."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        directory: Directory,
        who: Identity,
        stream: str | None,
        topics: tuple[str, ...],
        timeout_s: float | None,
        pick: Callable[[Message], T],
    ) -> None:
        """Raises ValueError and BadRequest for what no fleet can tell."""
        self._name = check_subscription(stream, topics, timeout_s)
        self._directory = directory
        self._timeout_s = timeout_s
        self._pick = pick
        self._voices = Voices(context, who, self._name, topics)
        self._is_following = False

    def close(self) -> None:
        self._voices.close()

    async def __aenter__(self) -> "AsyncFleetSubscription[T]":
        await self._follow()
        return self

    async def __anext__(self) -> T:
        """Raises UnknownStream, ConfigError, Timeout."""
        await self._follow()
        began_s = time.monotonic()
        while not self._voices.is_closed:
            self._voices.follow(self._directory.known(self._name))
            for voice in await self._ready():
                message = self._voices.accepted(voice, await voice.socket.recv_multipart())
                if message is not None:
                    return self._pick(message)
            if self._timeout_s is not None and time.monotonic() - began_s > self._timeout_s:
                raise self._voices.silent(self._timeout_s)
        raise StopAsyncIteration

    async def _follow(self) -> None:
        """From the first call on."""
        if not (self._is_following or self._voices.is_closed):
            self._voices.follow(await _asked(self._directory, lambda there: there.where(self._name)))
            self._is_following = True

    async def _ready(self) -> list[Voice[zmq.asyncio.Socket]]:
        """Who has something to say, the newest owner first."""
        poller = zmq.asyncio.Poller()
        voices = self._voices.newest_first()
        for voice in voices:
            poller.register(voice.socket, zmq.POLLIN)
        ready = dict(await poller.poll(round(FOLLOW_S * 1000)))
        return [voice for voice in voices if voice.socket in ready]
