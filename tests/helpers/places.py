"""What boxes say of where a stream is, said for a daemon that has no box."""

import asyncio

import msgspec

from helpers.boxes import connected_to
from helpers.fake_daemon import FakeDaemon
from helpers.fleets import START_S, NatsServer
from tracker.client.nats_options import NatsOptions
from tracker.fleet.buckets import Buckets
from tracker.protocol.placement import WHERE, Where


def tell(server: NatsServer, daemon: FakeDaemon, token: str, publish: str | None = None) -> None:
    """That it has the stream cam1; where it publishes, or something else instead."""
    where = Where(
        stream="cam1",
        box="north",
        owner=token,
        control=daemon.control.endpoint,
        publish=daemon.publisher.endpoint if publish is None else publish,
    )

    async def say() -> None:
        async with connected_to(NatsOptions([server.url])) as connection:
            await Buckets.create(connection, 1)
            bucket = await connection.jetstream().key_value(WHERE)
            await bucket.put("cam1", msgspec.json.encode(where))

    asyncio.run(asyncio.wait_for(say(), START_S))
