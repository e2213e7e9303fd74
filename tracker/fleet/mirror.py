"""What the daemon publishes about this box's streams, as subjects of NATS, where many services subscribe once."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec
from nats.aio.client import Client as Nats
from nats.errors import Error as NatsError

from tracker.client import Message
from tracker.protocol.messages import Event, Status, Tracks
from tracker.protocol.placement import MIRROR, key_of
from tracker.protocol.records import StreamRecord

log = logging.getLogger(__name__)

WAITING = 1000  # messages that NATS has not taken yet; older ones make room

Mirrored = Tracks | Event | StreamRecord


class Mirror:
    """Bodies in MessagePack, as the daemon sends them; of the status each stream's own record. Only of streams that
    are ours: `is_ours` gets a stream and the owner that its message names."""

    def __init__(self, nats: Nats, is_ours: Callable[[str, object], bool]) -> None:
        self.dropped = 0
        self._nats = nats
        self._is_ours = is_ours
        self._waiting: asyncio.Queue[tuple[str, Mirrored]] = asyncio.Queue(WAITING)

    def take(self, message: Message) -> None:
        body = message.body
        if isinstance(body, Tracks):
            self._put("tracks", body)
        elif isinstance(body, Event):
            self._put("events", body)
        elif isinstance(body, Status):
            for record in body.streams:
                self._put("status", record)

    async def run(self) -> None:
        """For ever."""
        while True:
            subject, body = await self._waiting.get()
            data = msgspec.msgpack.encode(body)
            if not self._nats.is_connected or len(data) > self._nats.max_payload:
                self.dropped += 1
                continue
            with contextlib.suppress(NatsError, OSError):
                await self._nats.publish(subject, data)

    def _put(self, kind: str, body: Mirrored) -> None:
        if not self._is_ours(body.stream, body.owner):
            return
        if self._waiting.full():
            self._waiting.get_nowait()
            self.dropped += 1
        self._waiting.put_nowait((f"{MIRROR}.{key_of(body.stream)}.{kind}", body))
