"""NATS comes back without what it stored: what runs goes on, and its boxes want it again. A real NATS."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from nats.js import JetStreamContext

from helpers.boxes import HoldingDaemon, asked, box_of, connected_to, until
from helpers.fleets import NatsServer, nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import moves, people
from tracker.fleet.buckets import Buckets, entry_of
from tracker.fleet.bundles import StoredObject
from tracker.fleet.claim import Ownership
from tracker.fleet.keeping import TRY_AGAIN_S
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.messages import Event
from tracker.protocol.placement import Token
from tracker.protocol.records import StreamRecord

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

PATIENCE_S = 100.0
SAVES = 5
WANTED = {name: WantedStream(url=f"file:///{name}.mp4", needs={"gpu": name == "yard"}) for name in ("gate", "yard")}


async def placed(buckets: Buckets) -> dict[str, people.Placed]:
    """Live streams that can be found."""
    return {stream.stream: stream for stream in (await people.state(buckets)).streams if stream.state == "live"}


def lose_what_is_stored(server: NatsServer) -> None:
    server.stop()
    shutil.rmtree(server.folder)
    server.start()


def test_streams_and_their_objects_go_on_and_nothing_is_counted_from_one_again(tmp_path: Path) -> None:
    async def work(server: NatsServer) -> None:
        nats, options = NatsConfig(servers=(server.url,)), NatsOptions([server.url])
        daemons = [HoldingDaemon(), HoldingDaemon()]
        async with (
            box_of(nats, daemons[0], "north", labels={"gpu": False}),
            box_of(nats, daemons[1], "south", labels={"gpu": True}),
        ):
            async with asked(options) as buckets:
                await people.apply(buckets, WANTED, prune=False)

                async def are_live() -> bool:
                    return (await placed(buckets)).keys() == WANTED.keys()

                await until(are_live)
                before = await placed(buckets)
            for daemon in daemons:
                daemon.hold(5, 7)
            records = [record for daemon in daemons for record in await daemon.streams()]
            lose_what_is_stored(server)
            async with asked(options) as buckets:

                async def are_taken_anew() -> bool:
                    now = await placed(buckets)
                    return now.keys() == WANTED.keys() and all(_is_newer(now[name], before[name]) for name in now)

                await until(are_taken_anew)
                now = await placed(buckets)
            assert {name: structs.replace(now[name], owner=before[name].owner) for name in now} == before
            for daemon, record in zip(daemons, records, strict=True):
                (streams,) = await daemon.streams()
                assert (streams.stream, streams.decoded > record.decoded) == (record.stream, True)
                assert sorted(daemon.objects) == [5, 7]

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))


def test_an_owner_who_did_not_hear_that_his_stream_was_removed_does_not_claim_it_again(tmp_path: Path) -> None:
    """It may be wanted anew already: whoever gets it then begins from nothing."""

    async def work(server: NatsServer) -> None:
        async with connected_to(NatsOptions([server.url])) as nats:
            buckets = await Buckets.create(nats, 1)
            ours = Ownership(buckets, "gate", Token(1, 1))
            await ours.make("north")
            await buckets.claims.purge("gate")
            for write in (ours.look, ours.point_at_own_bundle):
                with pytest.raises(TimeoutError):
                    await write()
            assert (await entry_of(buckets.claims, "gate")).value is None

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))


def test_where_nats_is_full_it_is_said_and_not_asked_all_the_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each save exports all objects of a stream; the pauses between grow."""
    (tmp_path / "nats.conf").write_text("jetstream { max_file_store: 1MB }\n")

    async def work(server: NatsServer) -> None:
        daemon, exports = HoldingDaemon(), list[float]()
        exported = daemon.export

        async def export(stream: str) -> list[StoredObject]:
            exports.append(time.monotonic())
            return [StoredObject(one.record, bytes(2 << 20)) for one in await exported(stream)]

        async with (
            box_of(NatsConfig(servers=(server.url,)), daemon) as box,
            asked(NatsOptions([server.url])) as buckets,
        ):
            await people.apply(buckets, {"gate": WantedStream(url="file:///gate.mp4")}, prune=False)
            while "gate" not in box.leases or not await daemon.streams():
                await asyncio.sleep(0.05)
            daemon.hold(5)
            exports.clear()
            monkeypatch.setattr(daemon, "export", export)
            owner = str(box.leases["gate"].token)
            box.leases["gate"].take_event(added(owner))
            while len(exports) < SAVES:
                await asyncio.sleep(0.05)
        assert exports[-1] - exports[-2] >= TRY_AGAIN_S * 2 ** (SAVES - 2)
        assert [line for line in caplog.messages if "its objects are not stored: NATS: " in line]

    with nats_server(tmp_path, ["-c", str(tmp_path / "nats.conf")]) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))


def test_what_is_wanted_again_while_old_marks_are_forgotten_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "MARKS_S", 0)

    async def work(server: NatsServer) -> None:
        async with connected_to(NatsOptions([server.url])) as nats:
            buckets = await Buckets.create(nats, 1)
            await buckets.wanted.put("gate", b"{}")
            await people.remove(buckets, ["gate"])
            purge = JetStreamContext.purge_stream

            async def purge_later(js: JetStreamContext, stream: str, **what: Any) -> bool:
                if what.get("subject") == "$KV.tracker-wanted.gate":
                    await buckets.wanted.put("gate", b"{}")
                return await purge(js, stream, **what)

            monkeypatch.setattr(JetStreamContext, "purge_stream", purge_later)
            await people.apply(buckets, {}, prune=False)
            assert (await entry_of(buckets.wanted, "gate")).value == b"{}"
            assert (await entry_of(buckets.claims, "gate")).revision == 0  # its mark is gone

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))


class NextDaemon(HoldingDaemon):
    """While it starts the stream, the one that has it gives another id."""

    def __init__(self, before: HoldingDaemon) -> None:
        super().__init__()
        self.given = 0
        self._before = before

    async def add_stream(self, *settings: Any) -> StreamRecord:
        self.given = max(self._before.objects) + 1
        self._before.hold(self.given)
        return await super().add_stream(*settings)


def test_ids_that_a_box_gives_until_its_stream_is_live_elsewhere_are_not_given_again(tmp_path: Path) -> None:
    async def work(server: NatsServer) -> None:
        nats, before = NatsConfig(servers=(server.url,)), HoldingDaemon()
        after = NextDaemon(before)
        async with box_of(nats, before), asked(NatsOptions([server.url])) as buckets:
            await people.apply(buckets, {"gate": WantedStream(url="file:///gate.mp4")}, prune=False)

            async def is_live() -> bool:
                return "gate" in await placed(buckets)

            await until(is_live)
            before.hold(5, 7)
            async with box_of(nats, after, "south"):

                async def is_there() -> bool:
                    return len(await people.boxes(buckets)) == 2

                await until(is_there)
                assert await moves.move(buckets, "gate", "south") == "south"
            assert after.first_object > after.given

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))


def added(owner: str) -> Event:
    return Event(event="object_added", stream="gate", object=5, owner=owner, frame=1, epoch=0, time=0.0)


def _is_newer(now: people.Placed, before: people.Placed) -> bool:
    assert now.owner is not None
    assert before.owner is not None
    return Token.parse(now.owner) > Token.parse(before.owner)
