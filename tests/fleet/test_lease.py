"""What happens to a stream while a box's daemon is starting it: real NATS, a box whose daemon has no cameras."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, until
from helpers.fleets import NatsServer, nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import people
from tracker.fleet.buckets import Buckets
from tracker.fleet.claim import Ownership
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.placement import Token
from tracker.protocol.records import StreamRecord

pytestmark = [pytest.mark.nats, pytest.mark.timeout(240)]

PATIENCE_S = 180.0
FIRST = "file:///first.mp4"
SECOND = "file:///second.mp4"

Meanwhile = Callable[[Buckets], Awaitable[Any]]


class StartingDaemon(SimulatedDaemon):
    """Something happens when it has just started its first stream, before the box hears of that."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None
        self.happened = asyncio.Event()

    async def add_stream(self, *settings: Any) -> StreamRecord:
        record = await super().add_stream(*settings)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            self.happened.set()
            await meanwhile()
        return record

    async def urls(self) -> list[str]:
        return [record.url for record in await self.streams()]


async def afterwards(server: NatsServer, happens: Meanwhile, stages: list[list[str]]) -> None:
    """Until the daemon serves what it is to serve in each stage, one after the other, and the box knows it."""
    daemon = StartingDaemon()
    nats = NatsConfig(servers=(server.url,))
    async with box_of(nats, daemon) as box, asked(NatsOptions([server.url])) as buckets:
        daemon.meanwhile = lambda: happens(buckets)
        await people.apply(buckets, {"cam": WantedStream(url=FIRST)}, prune=False)
        await daemon.happened.wait()
        for urls in stages:

            async def is_right(urls: list[str] = urls) -> bool:
                return await daemon.urls() == urls and ("cam" in box.leases) == bool(urls)

            await until(is_right)


async def _claim_elsewhere(buckets: Buckets) -> None:
    """As a box that was handed the stream later."""
    await Ownership(buckets, "cam", Token(1, 1000)).make("south")


async def _fail(buckets: Buckets) -> None:  # noqa: ARG001 - as NATS does
    raise NatsError


async def _change(buckets: Buckets) -> None:
    await people.apply(buckets, {"cam": WantedStream(url=SECOND)}, prune=False)


CASES: dict[str, tuple[Meanwhile, list[list[str]]]] = {
    "it is wanted no longer": (lambda buckets: people.remove(buckets, ["cam"]), [[]]),
    "another box claims it": (_claim_elsewhere, [[]]),
    "its settings change": (_change, [[SECOND]]),
    "NATS fails, and hands it out again": (_fail, [[], [FIRST]]),
}


@pytest.mark.parametrize("case", CASES)
def test_while_it_starts(case: str, tmp_path: Path) -> None:
    happens, stages = CASES[case]
    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(afterwards(server, happens, stages), PATIENCE_S))
