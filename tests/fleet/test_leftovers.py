"""A box that stops or dies while it stores objects leaves nothing for long, and what is stored stays. Real NATS."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, connected_to, until
from helpers.fake_daemon import MOVED
from helpers.fleets import nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import people
from tracker.fleet.buckets import Buckets
from tracker.fleet.bundles import CHUNKS, Bundle, StoredObject, drop_bundle, drop_leftovers, get_bundle, put_bundle
from tracker.fleet.claim import Ownership
from tracker.fleet.records import BUNDLES
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.placement import Token

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

PATIENCE_S = 100.0
TOKEN = Token(1, 1)
BUNDLE = Bundle([StoredObject(MOVED, bytes(1 << 20))], 8)  # eight chunks


def fleet(folder: Path, work: Callable[[Buckets], Awaitable[None]]) -> None:
    async def do(url: str) -> None:
        async with connected_to(NatsOptions([url])) as nats:
            await work(await Buckets.create(nats, 1))

    with nats_server(folder) as server:
        asyncio.run(asyncio.wait_for(do(server.url), PATIENCE_S))


async def left(buckets: Buckets) -> set[str]:
    """Chunks and records."""
    return set((await buckets.js.stream_info(f"OBJ_{BUNDLES}", subjects_filter=">")).state.subjects or {})


async def die_while_storing(buckets: Buckets) -> str:
    """As a box that is killed. Returns what it has written."""
    chunks = f"{CHUNKS}{buckets.nats.new_inbox().rpartition('.')[2]}"
    for _ in range(3):
        await buckets.js.publish(chunks, bytes(1000))
    return chunks


def test_who_is_stopped_while_he_stores_objects_has_stored_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.fleet.bundles.STOPPED_S", PATIENCE_S)

    async def work(buckets: Buckets) -> None:
        publish, published = buckets.bundles._js.publish, []

        async def stopped_at_the_third(*message: Any, **more: Any) -> Any:
            published.append(message)
            if len(published) == 3:
                storing.cancel()
            return await publish(*message, **more)

        monkeypatch.setattr(buckets.bundles._js, "publish", stopped_at_the_third)
        storing = asyncio.ensure_future(put_bundle(buckets.bundles, "cam", TOKEN, BUNDLE))
        with pytest.raises(asyncio.CancelledError):
            await storing
        assert await get_bundle(buckets.js, "cam", [str(TOKEN)]) == BUNDLE
        await drop_bundle(buckets.js, buckets.bundles, "cam", str(TOKEN))
        assert await left(buckets) == set()

    fleet(tmp_path, work)


def test_what_a_dead_box_left_is_removed_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(buckets: Buckets) -> None:
        assert await drop_leftovers(buckets.js) == 0
        await Ownership(buckets, "cam", TOKEN).make("north")
        dead = await die_while_storing(buckets)
        await put_bundle(buckets.bundles, "cam", TOKEN, BUNDLE)
        await buckets.js.publish(f"$O.{BUNDLES}.M.c3RyYW5nZQ==", b"\xff")
        stores_now = await die_while_storing(buckets)
        before = await left(buckets)
        assert {dead, stores_now} < before
        assert await drop_leftovers(buckets.js) == 0
        monkeypatch.setattr("tracker.fleet.bundles.LEFT_FOR", timedelta(0))
        assert await drop_leftovers(buckets.js) == 1
        assert await left(buckets) == before - {dead}
        assert await get_bundle(buckets.js, "cam", [str(TOKEN)]) == BUNDLE

    fleet(tmp_path, work)


def test_objects_of_a_stream_that_was_removed_while_no_box_had_it_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.fleet.bundles.LEFT_FOR", timedelta(0))

    async def work(buckets: Buckets) -> None:
        for stream in ("gate", "yard"):
            await buckets.wanted.put(stream, b"{}")
            await Ownership(buckets, stream, TOKEN).make("north")
            await put_bundle(buckets.bundles, stream, TOKEN, BUNDLE)
        await Ownership(buckets, "yard", Token(1, 2)).make("south")  # which has not stored any yet
        await people.remove(buckets, ["gate"])
        await put_bundle(buckets.bundles, "yard", Token(1, 2), BUNDLE)  # the clock goes on
        for _ in range(2):
            await drop_leftovers(buckets.js)
        assert await get_bundle(buckets.js, "gate", [str(TOKEN)]) == Bundle()
        assert await get_bundle(buckets.js, "yard", [str(Token(1, 2))]) == BUNDLE
        await drop_bundle(buckets.js, buckets.bundles, "yard", str(Token(1, 2)))
        assert await left(buckets) == set()

    fleet(tmp_path, work)


def test_boxes_do_it_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.fleet.box.SWEEP_S", 0.05)
    monkeypatch.setattr("tracker.fleet.bundles.LEFT_FOR", timedelta(0))

    async def work(url: str) -> None:
        async with box_of(NatsConfig(servers=(url,)), SimulatedDaemon()), asked(NatsOptions([url])) as buckets:
            dead = await die_while_storing(buckets)
            await people.apply(buckets, {"cam": WantedStream(url="file:///film.mp4")}, prune=False)

            async def is_removed() -> bool:
                names = await left(buckets)
                return bool(names) and dead not in names

            await until(is_removed)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))
