"""Boxes of a fleet in this process, with daemons that have no cameras."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec import structs
from nats.aio.client import Client as Nats
from nats.errors import Error as NatsError

from benches.fleet_boxes import SimulatedDaemon
from helpers.fake_daemon import MOVED
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.errors import ConfigError, Timeout, UnknownStream
from tracker.fleet.box import Box
from tracker.fleet.buckets import Buckets
from tracker.fleet.bundles import StoredObject
from tracker.fleet.settings import BoxConfig, NatsConfig
from tracker.protocol.records import StreamRecord

LOOK_S = 0.02
TRY_AGAIN_S = 0.5


@asynccontextmanager
async def box_of(
    nats: NatsConfig, daemon: SimulatedDaemon, name: str = "north", **settings: Any
) -> AsyncIterator[Box]:
    """Alone in its fleet, it need not wait for owners who are away."""
    monkeypatched = pytest.MonkeyPatch()
    monkeypatched.setattr("tracker.fleet.box.ACK_WAIT_S", 0.0)
    box = Box(BoxConfig(box=name, nats=nats, **settings), daemon)
    running = asyncio.ensure_future(box.run())
    try:
        yield box
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        monkeypatched.undo()


@asynccontextmanager
async def connected_to(options: NatsOptions) -> AsyncIterator[Nats]:
    connection = await connect_nats(options, "test")
    try:
        yield connection
    finally:
        await close_nats(connection)


@asynccontextmanager
async def asked(options: NatsOptions) -> AsyncIterator[Buckets]:
    """What people ask, once a box has made what is asked."""
    async with connected_to(options) as connection:
        yield await _opened(connection)


async def _opened(connection: Nats) -> Buckets:
    while True:
        with suppress(ConfigError, TimeoutError):
            return await Buckets.open(connection)
        await asyncio.sleep(TRY_AGAIN_S)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """What NATS does not answer, as while its servers agree on a leader, is asked again."""
    while True:
        with suppress(NatsError, TimeoutError):
            if await condition():
                return
        await asyncio.sleep(LOOK_S)


def stored_object(object_id: int) -> StoredObject:
    return StoredObject(structs.replace(MOVED, object=object_id), b"memory")


class HoldingDaemon(SimulatedDaemon):
    """Has objects. It may be silent when it is to take the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[int, StoredObject] = {}
        self.silent_times = 0
        self.first_object = 0

    async def add_stream(self, *settings: Any) -> StreamRecord:
        self.first_object = settings[-1]
        return await super().add_stream(*settings)

    async def remove_stream(self, stream: str) -> StreamRecord | None:
        self.objects.clear()
        return await super().remove_stream(stream)

    async def export(self, stream: str) -> list[StoredObject]:
        if stream not in self._streams:
            raise UnknownStream(f"stream: no stream is called {stream!r}")
        return list(self.objects.values())

    async def take(self, stream: str, stored: StoredObject) -> None:  # noqa: ARG002 - there is only one
        if self.objects and self.silent_times > 0:
            self.silent_times -= 1
            raise Timeout("no reply")
        self.hold(stored.record.object)

    def hold(self, *ids: int) -> None:
        self.objects.update({object_id: stored_object(object_id) for object_id in ids})

    async def urls(self) -> list[str]:
        return [record.url for record in await self.streams()]
