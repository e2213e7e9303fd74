"""A box's fleet process ends and is started again, and the daemon beside it goes on meanwhile. A real NATS."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.boxes import HoldingDaemon, box_of, connected_to, until
from helpers.fleets import nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import moves, people
from tracker.fleet.box import Box
from tracker.fleet.buckets import Buckets
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.placement import SAVE, key_of
from tracker.protocol.records import StreamRecord

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

PATIENCE_S = 60.0
FIRST, SECOND = "file:///first.mp4", "file:///second.mp4"


class LastingDaemon(HoldingDaemon):
    """Counts what is begun. It may hang when it is to take an object."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.hangs: asyncio.Event | None = None

    async def add_stream(self, *settings: Any) -> StreamRecord:
        self.begun += 1
        return await super().add_stream(*settings)

    async def take(self, *what: Any) -> None:
        if self.objects and self.hangs is not None:
            self.hangs.set()
            await asyncio.Event().wait()
        await super().take(*what)


Work = Callable[[NatsConfig, Buckets, LastingDaemon], Awaitable[None]]


def with_a_daemon(folder: Path, work: Work) -> None:
    """That serves `cam` with the objects 1 and 2, which are stored, and 3. Its fleet process has ended."""

    async def run(url: str) -> None:
        nats, daemon = NatsConfig(servers=(url,)), LastingDaemon()
        async with connected_to(NatsOptions([url])) as connection:
            buckets = await Buckets.create(connection, 1)
            async with box_of(nats, daemon) as box:
                await want(buckets, FIRST)
                await until(lambda: is_served(box, daemon))
                daemon.hold(1, 2)
                await store(buckets, box)
                daemon.hold(3)
            await work(nats, buckets, daemon)

    with nats_server(folder) as server:
        asyncio.run(asyncio.wait_for(run(server.url), PATIENCE_S))


async def want(buckets: Buckets, url: str) -> None:
    await people.apply(buckets, {"cam": WantedStream(url=url)}, prune=False)


async def store(buckets: Buckets, box: Box) -> None:
    """As a client asks for it."""
    subject = f"{SAVE}.cam.{key_of(str(box.leases['cam'].token))}"
    await buckets.nats.request(subject, b"", timeout=PATIENCE_S)


async def is_served(box: Box, daemon: LastingDaemon) -> bool:
    records = await daemon.streams()
    return any(r.stream in box.leases and box.leases[r.stream].is_ours(r.owner) for r in records)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """JetStream hands a stream on later than any test waits."""
    monkeypatch.setattr("tracker.fleet.queueing.ACK_WAIT_S", 10 * PATIENCE_S)


@pytest.mark.usefixtures("patient")
class TestAStreamThatIsStillItsBoxs:
    def test_goes_on_with_all_that_it_has(self, tmp_path: Path) -> None:
        async def work(nats: NatsConfig, buckets: Buckets, daemon: LastingDaemon) -> None:
            before = await daemon.streams()
            async with box_of(nats, daemon) as box:
                await until(lambda: is_served(box, daemon))
                await store(buckets, box)
            assert (await daemon.streams(), daemon.begun, sorted(daemon.objects)) == (before, 1, [1, 2, 3])

        with_a_daemon(tmp_path, work)

    def test_has_the_settings_that_were_changed_meanwhile(self, tmp_path: Path) -> None:
        async def work(nats: NatsConfig, buckets: Buckets, daemon: LastingDaemon) -> None:
            await want(buckets, SECOND)
            async with box_of(nats, daemon):

                async def is_changed() -> bool:
                    return await daemon.urls() == [SECOND] and sorted(daemon.objects) == [1, 2, 3]

                await until(is_changed)

        with_a_daemon(tmp_path, work)

    def test_is_given_away_where_that_was_ordered_meanwhile(self, tmp_path: Path) -> None:
        async def work(nats: NatsConfig, buckets: Buckets, daemon: LastingDaemon) -> None:
            other = LastingDaemon()
            await moves.drain(buckets, "north")
            async with box_of(nats, daemon), box_of(nats, other, "south"):

                async def is_elsewhere() -> bool:
                    return await daemon.urls() == [] and sorted(other.objects) == [1, 2, 3]

                await until(is_elsewhere)

        with_a_daemon(tmp_path, work)


@pytest.mark.usefixtures("patient")
def test_a_stream_that_nobody_wants_any_more_is_removed(tmp_path: Path) -> None:
    async def work(nats: NatsConfig, buckets: Buckets, daemon: LastingDaemon) -> None:
        await people.remove(buckets, ["cam"])
        async with box_of(nats, daemon):

            async def is_gone() -> bool:
                return await daemon.urls() == []

            await until(is_gone)

    with_a_daemon(tmp_path, work)


def test_objects_that_the_daemon_had_not_taken_over_yet_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.fleet.queueing.ACK_WAIT_S", 1.0)

    async def work(nats: NatsConfig, buckets: Buckets, daemon: LastingDaemon) -> None:
        daemon.hangs = asyncio.Event()
        await want(buckets, SECOND)
        async with box_of(nats, daemon):
            await daemon.hangs.wait()
        daemon.hangs = None
        before = set(daemon.objects)
        assert before < {1, 2, 3}
        async with box_of(nats, daemon) as box:

            async def is_whole() -> bool:
                return await is_served(box, daemon) and set(daemon.objects) > before

            await until(is_whole)
            await store(buckets, box)
        assert {1, 2} <= set(daemon.objects)

    with_a_daemon(tmp_path, work)
