"""What others write into the same NATS: boxes go on, and take what is wanted. Real NATS, boxes without cameras."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, connected_to, until
from helpers.fleets import nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import people
from tracker.fleet.buckets import Buckets
from tracker.fleet.records import QUEUE, QUEUE_SUBJECT
from tracker.fleet.settings import NatsConfig, WantedStream

pytestmark = [pytest.mark.nats, pytest.mark.timeout(240)]

PATIENCE_S = 180.0


async def _garbage_needs(buckets: Buckets) -> None:
    for key in ("any", "strange"):
        await buckets.needs.put(key, b"\xff garbage")
    for number in range(300):
        await buckets.needs.put(f"many{number}", b"{}")


async def _impossible_names(buckets: Buckets) -> None:
    for name in ("Upper", "a b".replace(" ", "~"), "\x1b[31m"):
        await buckets.js.publish(f"{QUEUE_SUBJECT}.any.{name}", b"")


async def _like_jetstream(buckets: Buckets) -> None:
    """Messages of the queue with the header by which JetStream says that there is none."""
    for name, status in (("x", "404"), ("Upper", "409 Consumer Deleted"), ("cam", "503"), ("y", "100")):
        await buckets.js.publish(f"{QUEUE_SUBJECT}.any.{name}", b"", headers={"Status": status})


async def _garbage_entries(buckets: Buckets) -> None:
    deep = b'{"strange":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    no_text = b'{"kind":"\xff","owner":"\xff","stream":"\xff","box":"\xff"}'
    for bucket in (buckets.orders, buckets.boxes, buckets.where, buckets.claims):
        for name, value in (("cam", b"\xff\x00{"), ("deep", deep), ("text", no_text)):
            await bucket.put(name, value)
    await buckets.orders.put("move.cam", b'{"kind":"move","time":1e300,"to":"south"}')


WRITTEN: dict[str, Callable[[Buckets], Awaitable[None]]] = {
    "needs that are none": _garbage_needs,
    "names that no stream has": _impossible_names,
    "messages that say there is none": _like_jetstream,
    "entries that are none": _garbage_entries,
}


@pytest.mark.parametrize("what", WRITTEN)
def test_what_strangers_write(what: str, tmp_path: Path) -> None:
    async def work(url: str) -> None:
        daemon = SimulatedDaemon()
        async with box_of(NatsConfig(servers=(url,)), daemon) as box, asked(NatsOptions([url])) as buckets:
            await WRITTEN[what](buckets)
            await people.apply(buckets, {"cam": WantedStream(url="file:///film.mp4")}, prune=False)

            async def is_served() -> bool:
                return [record.stream for record in await daemon.streams()] == ["cam"] and "cam" in box.leases

            await until(is_served)
            await until(lambda: is_queued_alone(buckets))
            loops = [task for task in asyncio.all_tasks() if task.get_name().startswith("pull-")]
            assert [task.get_name() for task in loops] == ["pull-any"]

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


async def is_queued_alone(buckets: Buckets) -> bool:
    """What nobody wants is handed to no box again."""
    return (await buckets.js.stream_info(QUEUE)).state.messages == 1


def test_two_boxes_of_one_name_are_told(tmp_path: Path) -> None:
    async def work(url: str) -> None:
        nats = NatsConfig(servers=(url,))
        async with (
            box_of(nats, SimulatedDaemon()) as first,
            box_of(nats, SimulatedDaemon()) as second,
            asked(NatsOptions([url])),
        ):

            async def are_told() -> bool:
                messages = [box.record().message for box in (first, second) if box.connected]
                return messages == ["another box is called so as well"] * 2

            await until(are_told)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


def test_boxes_that_start_together_make_the_fleet_together(tmp_path: Path) -> None:
    async def work(url: str) -> None:
        async with (
            connected_to(NatsOptions([url])) as first,
            connected_to(NatsOptions([url])) as second,
            connected_to(NatsOptions([url])) as third,
        ):
            for _ in range(20):
                made = await asyncio.gather(*(Buckets.create(nats, 1) for nats in (first, second, third)))
                for stream in await made[0].js.streams_info():
                    await made[0].js.delete_stream(str(stream.config.name))

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


def test_a_box_waits_where_jetstream_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Until people have mended it: here, a stream of somebody else has the fleet's subjects."""

    async def work(url: str) -> None:
        async with connected_to(NatsOptions([url])) as nats:
            await nats.jetstream().add_stream(name="strange", subjects=[f"{QUEUE_SUBJECT}.>"])
            async with box_of(NatsConfig(servers=(url,)), SimulatedDaemon()):

                async def is_told() -> bool:
                    return "JetStream refuses: subjects overlap with an existing stream" in caplog.text

                await until(is_told)
                await nats.jetstream().delete_stream("strange")
                async with asked(NatsOptions([url])):
                    pass

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))
