"""A box dies, hangs or is cut off: its streams go on elsewhere with their objects, and readers follow."""

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.fleets import START_S, TestFleet, free_port
from helpers.listeners import listening, owner_of
from helpers.waiting import wait_until
from tracker.client import AsyncClient, Client, nats_connection
from tracker.errors import BadRequest, ConfigError, UnknownStream
from tracker.fleet import moves
from tracker.fleet.bundles import get_bundle
from tracker.fleet.settings import WantedStream

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

RESTING = (110, 80, 130, 100)  # the square that rests
STREAMS = ["cam0", "cam1", "hall.door"]


@pytest.fixture(scope="class")
def streams(fleet: TestFleet, film: Path) -> list[str]:
    fleet.apply({name: WantedStream(url=str(film), loop=True) for name in STREAMS})
    fleet.wait_for(lambda live: set(live) == set(STREAMS))
    return STREAMS


REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda client: client.info(), BadRequest, "name the stream"),
    (lambda client: client.remove_stream("cam0"), BadRequest, "fleet rm"),
    (lambda client: client.objects("cam7"), UnknownStream, "no stream 'cam7'"),
]
NOT_PUBLISHED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda client: client.subscribe("cam7"), UnknownStream, "no stream 'cam7'"),
    (lambda client: client.subscribe(), ValueError, "name a stream"),
    (lambda client: client.subscribe("cam0", ("status",)), ValueError, "status"),
    (lambda client: client.subscribe("cam0", timeout_s=0), BadRequest, "timeout_s"),
]


@pytest.mark.usefixtures("streams")
class TestAClientOfAFleet:
    def test_is_told_what_is_not_to_be_had(self, fleet: TestFleet) -> None:
        with Client(fleet=fleet.nats.url) as client:
            for ask, kind, says in REFUSED + NOT_PUBLISHED:
                with pytest.raises(kind, match=says):
                    ask(client)

    def test_so_is_one_for_asyncio(self, fleet: TestFleet) -> None:
        async def use() -> None:
            async with AsyncClient(fleet=fleet.nats.url) as client:
                for ask, kind, says in REFUSED:
                    with pytest.raises(kind, match=says):
                        await ask(client)
                for ask, kind, says in NOT_PUBLISHED:
                    with pytest.raises(kind, match=says):
                        await anext(ask(client))

        asyncio.run(use())

    @pytest.mark.parametrize("is_closed_early", [True, False])
    def test_one_for_asyncio_is_made_where_there_is_no_fleet_and_says_so_when_asked(
        self, is_closed_early: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nats_connection, "PATIENCE_S", 1.0)

        async def use() -> None:
            async with AsyncClient(fleet=f"nats://127.0.0.1:{free_port()}") as client:
                if not is_closed_early:
                    with pytest.raises(ConfigError, match="NATS is not to be had there"):
                        await client.objects("cam0")

        asyncio.run(use())

    def test_one_for_asyncio_follows_a_stream_and_stores_its_objects(self, fleet: TestFleet) -> None:
        before = fleet.live()["cam1"]

        async def use() -> None:
            async with AsyncClient(fleet=fleet.nats.url) as client:
                added = await client.add("cam1", box=RESTING)
                assert added.durable
                async with client.tracks("cam1", timeout_s=START_S) as tracks, client.subscribe("cam1") as messages:
                    first = await anext(tracks)
                    await asyncio.to_thread(fleet.do, partial(moves.move, stream="cam1", to=None))
                    while not (message := await anext(messages)).moved:
                        pass
                    while (last := await anext(tracks)).owner == first.owner:
                        pass
                assert last.frame > first.frame
                assert message.gap_s > 0
                assert [entry.object for entry in (await client.objects("cam1")).objects] == [added.object]
                await client.remove("cam1", added.object)

        asyncio.run(use())
        fleet.wait_for(lambda live: live.get("cam1", before) != before)


class TestAKilledBox:
    def test_loses_its_streams_and_nothing_else(self, fleet: TestFleet, streams: list[str]) -> None:
        with Client(fleet=fleet.nats.url) as client:
            added = {name: client.add(name, box=RESTING, label=f"post of {name}") for name in streams}
            assert all(result.durable for result in added.values())
            gone = client.add("cam0", box=RESTING)
            assert client.remove("cam0", gone.object).durable
            assert client.update("hall.door", added["hall.door"].object, label="door").durable
            victim = fleet.live()["cam0"]
            with listening(client, "cam0") as listener:
                fleet.boxes[victim].kill()
                assert listener.until_moved().gap_s > 0
            fleet.wait_for(lambda live: set(live) == set(streams) and victim not in live.values())
            for name in streams:
                (entry,) = client.objects(name).objects
                assert entry.object == added[name].object
                assert entry.label == ("door" if name == "hall.door" else f"post of {name}")
            wait_until(lambda: client.objects("cam0").objects[0].state == "visible", START_S)
            assert client.add("cam0", box=RESTING).object > gone.object  # ids never come back


@pytest.mark.usefixtures("streams")
class TestAStoppedBox:
    def test_gives_up_what_is_anothers_when_it_wakes(self, fleet: TestFleet) -> None:
        victim = fleet.live()["cam0"]
        with Client(fleet=fleet.nats.url) as client, fleet.client(victim) as old:
            added = client.add("cam0", box=RESTING)
            with listening(client, "cam0") as listener:
                fleet.boxes[victim].signal(signal.SIGSTOP)
                moved = listener.until_moved()
                assert client.update("cam0", added.object, label="newer").durable
                fleet.boxes[victim].signal(signal.SIGCONT)
                wait_until(lambda: "cam0" not in [s.stream for s in old.streams().streams], START_S)
                assert [owner_of(listener.next()) for _ in range(5)] == [owner_of(moved)] * 5
            assert next(o.label for o in client.objects("cam0").objects) == "newer"
        stored = fleet.do(lambda buckets: get_bundle(buckets.js, "cam0", [owner_of(moved)]))
        assert [one.record.label for one in stored.objects] == ["newer"]
