"""The box's own daemon: whether it answers, what it serves, and streams and objects put into it and taken out."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from tracker.client import AsyncClient, Message
from tracker.config import StreamConfig
from tracker.errors import BadRequest, TrackerError, TransferGone, UnknownObject, UnknownStream
from tracker.fleet.bundles import StoredObject
from tracker.protocol.fields import MAX_CHUNK_BYTES, MAX_TRANSFERS
from tracker.protocol.keys import read_pair
from tracker.protocol.messages import Status
from tracker.protocol.records import StreamRecord
from tracker.protocol.replies import ServerInfo

log = logging.getLogger(__name__)

ANSWER_S = 3.0  # a daemon that takes longer counts as gone
SILENCE_S = 3.0  # its status comes every second
RETRY_S = 0.25
AT_ONCE = MAX_TRANSFERS - 1  # objects each way, of all streams: beyond its bound the daemon forgets the oldest
TRIES = 5  # of one object: other clients have transfers too, and ours may be forgotten for theirs

T = TypeVar("T")


class Daemon(Protocol):
    """What a box asks of its daemon; the simulation has another one."""

    info: ServerInfo | None  # None: it does not answer
    status: Status | None
    on_message: Callable[[Message], None]
    on_change: Callable[[], None]

    async def run(self) -> None: ...
    async def objects_free(self) -> int: ...
    async def add_stream(
        self, stream: str, config: StreamConfig, owner: str, first_frame: int, epoch: int, first_object: int
    ) -> StreamRecord: ...
    async def remove_stream(self, stream: str) -> StreamRecord | None: ...
    async def export(self, stream: str) -> list[StoredObject]: ...
    async def take(self, stream: str, stored: StoredObject) -> None: ...
    async def streams(self) -> list[StreamRecord]: ...
    async def note(self, message: str | None) -> None: ...


class DaemonLink:
    """`on_message` gets what the daemon publishes, `on_change` is called when it comes or goes."""

    def __init__(self, control: str, key: str | None, mirror: bool) -> None:
        self.info: ServerInfo | None = None
        self.status: Status | None = None
        self.on_message: Callable[[Message], None] = lambda _: None
        self.on_change: Callable[[], None] = lambda: None
        self._topics = ("status", "events", "tracks") if mirror else ("status", "events")
        self._client = AsyncClient(control, timeout_s=ANSWER_S, key=key)
        self._exporting = asyncio.Semaphore(AT_ONCE)
        self._importing = asyncio.Semaphore(AT_ONCE)

    def close(self) -> None:
        self._client.close()

    async def run(self) -> None:
        """Listen to it for ever."""
        while True:
            try:
                self._set(await self._client.info())
                await self._listen()
            except TrackerError as error:
                if self.info is not None:
                    log.warning("the daemon is gone: %s", error)
            self._set(None)
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Until nothing comes any more. Raises TrackerError then."""
        async with self._client.subscribe(None, self._topics, SILENCE_S) as messages:
            async for message in messages:
                if isinstance(message.body, Status):
                    if self.status is not None and self.status.instance != message.body.instance:
                        self._set(await self._client.info())  # restarted: it may publish elsewhere
                    self.status = message.body
                self.on_message(message)

    def _set(self, info: ServerInfo | None) -> None:
        if info is None:
            self.status = None
        changed = (self.info is None) != (info is None)
        self.info = info
        if changed:
            self.on_change()

    async def objects_free(self) -> int:
        return (await self._client.info()).limits.objects_free

    async def note(self, message: str | None) -> None:
        await self._client.note("fleet", message)

    async def streams(self) -> list[StreamRecord]:
        return (await self._client.streams()).streams

    async def add_stream(
        self, stream: str, config: StreamConfig, owner: str, first_frame: int, epoch: int, first_object: int
    ) -> StreamRecord:
        """Its record, which says where it counts from: never lower than the name has had in this daemon."""
        numbers = {"first_frame": first_frame, "epoch": epoch}
        try:
            return await self._client.add_stream(stream, config, first_object=first_object, owner=owner, **numbers)
        except BadRequest as error:
            if not str(error).startswith(tuple(numbers)):
                raise
        return await self._client.add_stream(stream, config, first_object=first_object, owner=owner)

    async def remove_stream(self, stream: str) -> StreamRecord | None:
        """Its last record; None where it is not there."""
        with contextlib.suppress(UnknownStream):
            return await self._client.remove_stream(stream)
        return None

    async def export(self, stream: str) -> list[StoredObject]:
        """All objects of a stream."""
        listed = await self._client.objects(stream)
        stored = []
        for entry in listed.objects:
            with contextlib.suppress(UnknownObject):  # removed meanwhile
                async with self._exporting:
                    stored.append(await _until_whole(partial(self._export_one, stream, entry.object)))
        return stored

    async def _export_one(self, stream: str, object_id: int) -> StoredObject:
        chunk = await self._client.export_object(stream, object_id)
        memory = bytearray(chunk.data)
        while len(memory) < chunk.size:
            more = await self._client.export_object(stream, object_id, chunk.token, len(memory))
            memory += more.data
        return StoredObject(chunk.record, bytes(memory))

    async def take(self, stream: str, stored: StoredObject) -> None:
        """Go on with an object that another daemon had.

        Raises TrackerError; of these BadRequest only where the daemon can never go on with it.
        """
        async with self._importing:
            await _until_whole(partial(self._import, stream, stored))

    async def _import(self, stream: str, stored: StoredObject) -> None:
        size = len(stored.memory)
        for offset in range(0, size, MAX_CHUNK_BYTES):
            data = stored.memory[offset : offset + MAX_CHUNK_BYTES]
            await self._client.import_object(stream, stored.record, size, data, offset)


async def _until_whole(transfer: Callable[[], Awaitable[T]]) -> T:
    """What a transfer gives, begun again where the daemon forgot it. Raises TransferGone where it always does."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(TransferGone):
            return await transfer()
    return await transfer()


def public_key(key: str | None) -> str | None:
    """The daemon's own, out of our key file. Raises ConfigError."""
    return None if key is None else read_pair(Path(key)).server
