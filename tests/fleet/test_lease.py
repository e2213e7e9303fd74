"""What happens to a stream while a box's daemon is starting it: real NATS, a box whose daemon has no cameras."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, until
from helpers.fleets import NatsServer, nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import moves, people
from tracker.fleet.buckets import Buckets
from tracker.fleet.claim import Ownership
from tracker.fleet.lease import Lease
from tracker.fleet.records import ANY, QUEUE, queue_subject
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.fleet.tenure import Tenure
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
    await Ownership(buckets, "cam", Token(10**14, 1)).make("south")


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


class HesitantDaemon(SimulatedDaemon):
    """Takes its time before it does something, and before it says so."""

    async def add_stream(self, *settings: Any) -> StreamRecord:
        await hesitate()
        record = await super().add_stream(*settings)
        await hesitate()
        return record

    async def remove_stream(self, stream: str) -> StreamRecord | None:
        await hesitate()
        record = await super().remove_stream(stream)
        await hesitate()
        return record

    async def streams(self) -> list[StreamRecord]:
        records = await super().streams()
        await hesitate()
        return records


async def hesitate() -> None:
    await asyncio.sleep(random.random() * 0.2)


@pytest.mark.parametrize("needs", [{}, {"site": "north"}], ids=["any box", "boxes with what it needs"])
def test_a_stream_that_is_removed_and_wanted_by_two_at_once(needs: dict[str, Any], tmp_path: Path) -> None:
    """Whoever was last, the box that it comes back to serves it, and has not declined it."""
    cam, plain = ({name: WantedStream(url=FIRST, needs=needs)} for name in ("cam", "plain"))

    async def work(url: str) -> None:
        nats, daemon = NatsConfig(servers=(url,)), HesitantDaemon()
        async with box_of(nats, daemon, labels=needs) as box, asked(NatsOptions([url])) as buckets:

            async def is_right() -> bool:
                owners = {record.stream: record.owner for record in await daemon.streams()}
                leases = {stream: str(lease.token) for stream, lease in box.leases.items()}
                return owners == leases and leases.keys() == {"cam", "plain"}

            for _ in range(3):
                for _ in range(3):
                    await asyncio.gather(
                        people.apply(buckets, cam, prune=False), people.apply(buckets, plain, prune=True)
                    )
                await people.apply(buckets, {**cam, **plain}, prune=False)
                await until(is_right)
            assert box.figures.counts["refused"] == 0

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


def test_a_stream_that_is_handed_to_its_own_box_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JetStream did not hear for a while that it is in progress."""
    monkeypatch.setattr("tracker.fleet.queueing.ACK_WAIT_S", 1.0)

    async def is_not_told(_: Lease) -> None:
        pass

    async def work(url: str) -> None:
        nats, daemon = NatsConfig(servers=(url,)), SimulatedDaemon()
        async with box_of(nats, daemon), asked(NatsOptions([url])) as buckets:
            await people.apply(buckets, {"cam": WantedStream(url=FIRST)}, prune=False)

            async def handed_out() -> int:
                return (await buckets.js.consumer_info(QUEUE, ANY)).delivered.consumer_seq

            async def is_served() -> bool:
                return bool(await daemon.streams())

            async def is_handed_out_again() -> bool:
                return await handed_out() >= 3

            await until(is_served)
            before = await daemon.streams()
            with monkeypatch.context() as silent:
                silent.setattr(Lease, "in_progress", is_not_told)
                await until(is_handed_out_again)
            assert await daemon.streams() == before
            await people.remove(buckets, ["cam"])
            await until(lambda: is_empty(buckets))

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


async def is_empty(buckets: Buckets) -> bool:
    """Nothing waits, and nothing is in progress."""
    consumer = await buckets.js.consumer_info(QUEUE, ANY)
    return consumer.num_pending == 0 and consumer.num_ack_pending == 0


def test_a_stream_that_nobody_took_and_nobody_wants(tmp_path: Path) -> None:
    """It was given away before it was removed, and is served no longer."""

    async def work(url: str) -> None:
        nats, daemon = NatsConfig(servers=(url,)), SimulatedDaemon()
        async with box_of(nats, daemon) as box, asked(NatsOptions([url])) as buckets:

            async def is_in_state(*states: str) -> bool:
                return tuple(lease._tenure.state for lease in box.leases.values()) == states

            await people.apply(buckets, {"cam": WantedStream(url=FIRST)}, prune=False)
            await until(lambda: is_in_state("serving"))
            await moves.drain(buckets, "north")
            await until(lambda: is_in_state("given"))
            await people.remove(buckets, ["cam"])
            await until(is_in_state)
            assert await daemon.streams() == []

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


def test_a_stream_that_is_wanted_while_its_box_sees_that_nobody_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message was in the queue still, and so no other was sent."""
    settings = Tenure._settings

    async def then_wanted(tenure: Tenure) -> WantedStream | None:
        monkeypatch.setattr(Tenure, "_settings", settings)
        seen = await settings(tenure)
        await people.apply(tenure._ground.buckets, {"cam": WantedStream(url=FIRST)}, prune=False)
        return seen

    async def work(url: str) -> None:
        nats, daemon = NatsConfig(servers=(url,)), SimulatedDaemon()
        async with box_of(nats, daemon), asked(NatsOptions([url])) as buckets:

            async def is_served() -> bool:
                return [record.stream for record in await daemon.streams()] == ["cam"]

            monkeypatch.setattr(Tenure, "_settings", then_wanted)
            await buckets.js.publish(queue_subject("cam", {}), b"")
            await until(is_served)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))
