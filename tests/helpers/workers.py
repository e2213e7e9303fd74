"""A box at files in this process, at a NATS server of its own, with a daemon that is idle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from benches.fleet_boxes import SimulatedDaemon
from helpers.fleets import NatsServer
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.client.tasks import ended
from tracker.fleet.buckets import Buckets
from tracker.fleet.files import Files
from tracker.fleet.settings import JobsConfig
from tracker.fleet.worker import Worker

R = TypeVar("R")

PATIENCE_S = 60.0


def ask(server: NatsServer, work: Callable[[Files], Awaitable[R]], patience_s: float = PATIENCE_S) -> R:
    async def asked() -> R:
        connection = await connect_nats(NatsOptions([server.url]), "test")
        try:
            await Buckets.create(connection, 1)
            return await work(await Files.create(connection, 1))
        finally:
            await close_nats(connection)

    return asyncio.run(asyncio.wait_for(asked(), patience_s))


@asynccontextmanager
async def worker_of(there: Files, config: JobsConfig) -> AsyncIterator["asyncio.Future[None]"]:
    """A box at files, with a daemon that is idle."""
    daemon = SimulatedDaemon()
    worker = Worker("north", config, daemon, there, lambda: True)
    running = [asyncio.ensure_future(work) for work in (daemon.run(), worker.run())]
    try:
        yield running[1]
    finally:
        await ended(running)
