"""What streams need makes queues in NATS, which end with the last stream that needs it: real NATS."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, until
from helpers.fleets import nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import people, queueing
from tracker.fleet.buckets import Buckets
from tracker.fleet.reading import all_entries
from tracker.fleet.records import ANY, NEEDS, QUEUE, needs_key, queue_subject
from tracker.fleet.settings import NatsConfig, WantedStream

pytestmark = [pytest.mark.nats, pytest.mark.timeout(240)]

PATIENCE_S = 180.0
SITE: dict[str, Any] = {"site": "north"}
GPU: dict[str, Any] = {"gpu": True}


def wanted(**needs: Any) -> WantedStream:
    return WantedStream(url="file:///film.mp4", needs=needs)


async def queues(buckets: Buckets) -> set[str]:
    return {info.name for info in await buckets.js.consumers_info(QUEUE)}


def pulled_for() -> set[str]:
    names = [task.get_name() for task in asyncio.all_tasks()]
    return {name.removeprefix("pull-") for name in names if name.startswith("pull-")}


async def are_live(buckets: Buckets, *streams: str) -> bool:
    return {s.stream for s in (await people.state(buckets)).streams if s.state == "live"} >= set(streams)


def with_a_box(tmp_path: Path, work: Callable[[Buckets], Awaitable[None]]) -> None:
    async def run(url: str) -> None:
        labels = {**SITE, **GPU}
        async with (
            box_of(NatsConfig(servers=(url,)), SimulatedDaemon(), labels=labels),
            asked(NatsOptions([url])) as buckets,
        ):
            await work(buckets)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(run(server.url), PATIENCE_S))


async def _pruned(buckets: Buckets) -> None:
    await people.apply(buckets, {"plain": wanted(), "gpu": wanted(**GPU)}, prune=True)


async def _removed(buckets: Buckets) -> None:
    await people.remove(buckets, ["cam", "moon"])


async def _changed(buckets: Buckets) -> None:
    await people.apply(buckets, {"cam": wanted(), "moon": wanted()}, prune=False)


ENDS: dict[str, Callable[[Buckets], Awaitable[None]]] = {
    "pruned": _pruned,
    "removed": _removed,
    "changed": _changed,
}


@pytest.mark.parametrize("how", ENDS)
def test_needs_end_with_the_last_stream_that_has_them(tmp_path: Path, how: str) -> None:
    async def work(buckets: Buckets) -> None:
        streams = {"plain": wanted(), "cam": wanted(**SITE), "gpu": wanted(**GPU), "moon": wanted(site="moon")}
        await people.apply(buckets, streams, prune=False)
        await until(lambda: are_live(buckets, "plain", "cam", "gpu"))
        assert await queues(buckets) == {ANY, needs_key(SITE), needs_key(GPU)}
        await ENDS[how](buckets)
        assert await queues(buckets) == {ANY, needs_key(GPU)}
        assert list(await all_entries(buckets.js, NEEDS)) == [needs_key(GPU)]

        async def is_pulled_for_no_more() -> bool:
            return pulled_for() == {ANY, needs_key(GPU)}

        await until(is_pulled_for_no_more)
        await people.apply(buckets, streams, prune=False)  # and may be wanted anew
        await until(lambda: are_live(buckets, "plain", "cam", "gpu"))

    with_a_box(tmp_path, work)


@pytest.mark.parametrize("how", ENDS)
def test_what_is_in_progress_stays_so_when_others_leave_its_queue(tmp_path: Path, how: str) -> None:
    """Else nobody is handed it when its box dies."""

    async def work(buckets: Buckets) -> None:
        there = {name: wanted(**GPU) for name in ("gpu", "cam", "moon")}
        await people.apply(buckets, {"plain": wanted(), **there}, prune=False)
        await until(lambda: are_live(buckets, "plain", *there))
        await ENDS[how](buckets)

        async def gpu_alone_is_in_progress() -> bool:
            queue = await buckets.js.consumer_info(QUEUE, needs_key(GPU))
            return (queue.num_pending, queue.num_ack_pending) == (0, 1)

        await until(gpu_alone_is_in_progress)

    with_a_box(tmp_path, work)


@pytest.mark.parametrize("is_queued", [False, True], ids=["and queued anew", "and is still queued"])
def test_a_stream_that_is_wanted_while_its_needs_are_forgotten_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_queued: bool
) -> None:
    """Somebody wants it after the other has seen that nobody does, and before he has deleted them."""
    wanted_needs = queueing._wanted_needs

    async def work(buckets: Buckets) -> None:
        async def then_wanted(asked: Buckets) -> set[str]:
            monkeypatch.setattr(queueing, "_wanted_needs", wanted_needs)
            seen = await wanted_needs(asked)
            if is_queued:
                await asked.js.publish(queue_subject("cam", SITE), b"")
            await people.apply(asked, {"cam": wanted(**SITE)}, prune=False)
            return seen

        await people.apply(buckets, {"cam": wanted(**SITE)}, prune=False)
        monkeypatch.setattr(queueing, "_wanted_needs", then_wanted)
        await people.apply(buckets, {"plain": wanted()}, prune=True)
        assert needs_key(SITE) in await all_entries(buckets.js, NEEDS)

    with_a_box(tmp_path, work)


def test_a_queue_that_somebody_removes_is_made_anew(tmp_path: Path) -> None:
    async def work(buckets: Buckets) -> None:
        await people.apply(buckets, {"cam": wanted(**SITE)}, prune=False)
        await until(lambda: are_live(buckets, "cam"))
        for queue in await queues(buckets):
            await buckets.js.delete_consumer(QUEUE, queue)
        await people.apply(buckets, {"plain": wanted(), "late": wanted(**SITE)}, prune=False)

        async def are_served() -> bool:
            return {s.stream for s in (await people.state(buckets)).streams if s.box} >= {"plain", "late"}

        await until(are_served)

    with_a_box(tmp_path, work)
