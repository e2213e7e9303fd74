"""Boxes and people of different versions in one fleet: settings that a later one wrote. Real NATS."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from helpers.boxes import HoldingDaemon, asked, box_of, until
from helpers.fleets import nats_server
from tracker.client.nats_options import NatsOptions
from tracker.errors import BadRequest
from tracker.fleet import moves, people
from tracker.fleet.box import Box
from tracker.fleet.buckets import Buckets
from tracker.fleet.reading import all_entries
from tracker.fleet.records import NEEDS, needs_key
from tracker.fleet.settings import NatsConfig, WantedStream

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

PATIENCE_S = 60.0
NORTH: dict[str, str | bool | int] = {"site": "north"}
CAM = WantedStream(url="file:///cam.mp4", needs=NORTH)
LATER = json.dumps({"url": CAM.url, "needs": NORTH, "later": 1}).encode()


async def placed(buckets: Buckets) -> list[tuple[str, str | None, bool]]:
    return [(s.stream, s.state, s.message is not None) for s in (await people.state(buckets)).streams]


Work = Callable[[Buckets, Box, HoldingDaemon], Awaitable[None]]


def in_a_fleet(folder: Path, work: Work, *others: str) -> None:
    """Of a box that has what the stream needs, and others that have not."""

    async def run(url: str) -> None:
        daemon, nats = HoldingDaemon(), NatsConfig(servers=(url,))
        async with AsyncExitStack() as stack:
            box = await stack.enter_async_context(box_of(nats, daemon, labels=NORTH))
            for name in others:
                await stack.enter_async_context(box_of(nats, HoldingDaemon(), name))
            buckets = await stack.enter_async_context(asked(NatsOptions([url])))
            await work(buckets, box, daemon)

    with nats_server(folder) as server:
        asyncio.run(asyncio.wait_for(run(server.url), PATIENCE_S))


def test_a_stream_goes_on_where_its_settings_become_unreadable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(buckets: Buckets, box: Box, daemon: HoldingDaemon) -> None:
        await people.apply(buckets, {"cam": CAM}, prune=False)

        async def is_live() -> bool:
            return await placed(buckets) == [("cam", "live", False)]

        async def is_told() -> bool:
            told = any(text.startswith("cam goes on as it is") for text in caplog.messages)
            return told and all(lease.is_ours(str(lease.token)) for lease in box.leases.values())

        await until(is_live)
        before = await daemon.streams()
        await buckets.wanted.put("cam", LATER)
        await until(is_told)
        assert (await daemon.streams(), await placed(buckets)) == (before, [("cam", "live", False)])

    in_a_fleet(tmp_path, work)


def test_it_is_not_moved_to_a_box_that_has_not_what_it_needs(tmp_path: Path) -> None:
    async def work(buckets: Buckets, box: Box, daemon: HoldingDaemon) -> None:  # noqa: ARG001
        await people.apply(buckets, {"cam": CAM}, prune=False)

        async def is_live() -> bool:
            return await placed(buckets) == [("cam", "live", False)]

        async def are_two() -> bool:
            return len(await people.boxes(buckets)) == 2

        await until(is_live)
        await until(are_two)
        await buckets.wanted.put("cam", LATER)
        with pytest.raises(BadRequest, match="south: it has not what the stream needs"):
            await moves.move(buckets, "cam", "south")

    in_a_fleet(tmp_path, work, "south")


def test_one_that_begins_so_is_left_to_others_and_people_are_told_why(tmp_path: Path) -> None:
    async def work(buckets: Buckets, box: Box, daemon: HoldingDaemon) -> None:  # noqa: ARG001
        await buckets.wanted.put("cam", LATER)
        await people.apply(buckets, {}, prune=False)

        async def is_told() -> bool:
            told = [stream.message or "" for stream in (await people.state(buckets)).streams]
            return len(told) == 1 and "north: settings that this version cannot read" in told[0]

        await until(is_told)
        assert await daemon.streams() == []

    in_a_fleet(tmp_path, work)


def test_what_it_needs_stays_when_people_of_an_earlier_version_remove_others(tmp_path: Path) -> None:
    async def work(buckets: Buckets, box: Box, daemon: HoldingDaemon) -> None:  # noqa: ARG001
        await people.apply(buckets, {"cam": CAM, "other": WantedStream(url=CAM.url)}, prune=False)
        await buckets.wanted.put("cam", LATER)
        await people.remove(buckets, ["other"])
        assert list(await all_entries(buckets.js, NEEDS)) == [needs_key(NORTH)]

    in_a_fleet(tmp_path, work)
