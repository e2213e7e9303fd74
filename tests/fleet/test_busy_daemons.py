"""A daemon that is too busy for one answer of its box: what it serves then ends, or goes on, all the same."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from benches.fleet_boxes import INFO, SimulatedDaemon
from helpers.boxes import asked, box_of, until
from helpers.fleets import nats_server
from tracker.client.nats_options import NatsOptions
from tracker.errors import Timeout
from tracker.fleet import people
from tracker.fleet.buckets import Buckets, entry_of
from tracker.fleet.claim import Ownership
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.placement import Token, where_of
from tracker.protocol.records import StreamRecord

pytestmark = [pytest.mark.nats, pytest.mark.timeout(240)]

PATIENCE_S = 180.0
CAM = {"cam": WantedStream(url="file:///film.mp4")}


class BusyDaemon(SimulatedDaemon):
    """Its status comes, and while it is busy no answer. It may be busy from when it has started a stream."""

    def __init__(self, *, at_start: bool = False) -> None:
        super().__init__()
        self.is_busy = False
        self._at_start = at_start

    async def add_stream(self, *settings: Any) -> StreamRecord:
        record = await super().add_stream(*settings)
        self.is_busy = self._at_start
        return self._answer(record)

    async def streams(self) -> list[StreamRecord]:
        return self._answer(await super().streams())

    def _answer(self, answer: Any) -> Any:
        if self.is_busy:
            raise Timeout("no reply")
        return answer


async def _claim_elsewhere(buckets: Buckets) -> None:
    """As a box that was handed the stream later."""
    await Ownership(buckets, "cam", Token(10**14, 1)).make("south")


@pytest.mark.parametrize("at_start", [False, True], ids=["it went to another box", "it is not served here"])
def test_what_it_could_not_remove_then_it_removes_later(at_start: bool, tmp_path: Path) -> None:
    async def work(url: str) -> None:
        nats, daemon = NatsConfig(servers=(url,)), BusyDaemon(at_start=at_start)
        async with box_of(nats, daemon) as box, asked(NatsOptions([url])) as buckets:

            async def is_served() -> bool:
                return any(lease.is_ours(str(lease.token)) for lease in box.leases.values())

            async def is_busy() -> bool:
                return daemon.is_busy

            async def is_left() -> bool:
                return not box.leases

            async def is_removed() -> bool:
                return await daemon.streams() == []

            await people.apply(buckets, CAM, prune=False)
            if at_start:
                await until(is_busy)
            else:
                await until(is_served)
                daemon.is_busy = True
                await _claim_elsewhere(buckets)
            await until(is_left)
            daemon.is_busy = False
            await until(is_removed)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


def test_one_that_is_gone_publishes_where_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.fleet.box.DAEMON_GONE_S", math.inf)

    async def work(url: str) -> str | None:
        nats, daemon = NatsConfig(servers=(url,)), SimulatedDaemon()
        async with box_of(nats, daemon) as box, asked(NatsOptions([url])) as buckets:

            async def is_there() -> bool:
                return (await entry_of(buckets.where, "cam")).value is not None

            await people.apply(buckets, CAM, prune=False)
            await until(is_there)
            daemon.info = None
            daemon.on_change()
            before = (await entry_of(buckets.where, "cam")).revision
            box.leases["cam"]._renew_soon()

            async def is_renewed() -> bool:
                return (await entry_of(buckets.where, "cam")).revision > before

            await until(is_renewed)
            where = where_of((await entry_of(buckets.where, "cam")).value or b"")
            return where.publish if where else None

    with nats_server(tmp_path) as server:
        assert asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S)) == INFO.publish
