"""Streams are wanted once, and boxes share them out: real NATS, real daemons."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest

from helpers.fleets import START_S, TestFleet
from tracker.client import Client
from tracker.fleet.buckets import Buckets, compare_and_delete, entry_of
from tracker.fleet.claim import Ownership, Superseded
from tracker.fleet.settings import WantedStream
from tracker.protocol.messages import Tracks
from tracker.protocol.placement import Token
from tracker.protocol.records import StreamRecord

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

BOXES = ["north-1", "north-2", "south.1"]
TWELVE = [f"cam{i}" for i in range(11)] + ["hall.door"]


def wanted(film: Path, **more: Any) -> WantedStream:
    return WantedStream(url=str(film), loop=True, **more)


@pytest.fixture
def twelve(fleet: TestFleet, film: Path) -> None:
    """All of them are placed, whichever test was before."""
    fleet.apply({name: wanted(film) for name in set(TWELVE) - fleet.live().keys()})
    fleet.wait_for(lambda live: live.keys() >= set(TWELVE))


class TestThreeBoxes:
    def test_share_twelve_streams(self, fleet: TestFleet, film: Path) -> None:
        applied = fleet.apply({name: wanted(film) for name in TWELVE})
        assert applied.added == TWELVE
        live = fleet.wait_for(lambda live: len(live) == 12)
        assert sorted(live) == sorted(TWELVE)
        counts = Counter(live.values())
        assert all(3 <= counts[name] <= 5 for name in BOXES), counts

    @pytest.mark.usefixtures("twelve")
    def test_apply_again_changes_nothing(self, fleet: TestFleet, film: Path) -> None:
        before = fleet.state().streams
        again = fleet.apply({name: wanted(film) for name in TWELVE})
        assert (again.added, again.changed, again.removed) == ([], [], [])
        assert [(s.stream, s.owner) for s in fleet.state().streams] == [(s.stream, s.owner) for s in before]

    @pytest.mark.usefixtures("twelve")
    def test_the_token_stands_in_the_messages(self, fleet: TestFleet) -> None:
        placed = next(s for s in fleet.state().streams if s.stream == "cam0")
        assert placed.box is not None
        with fleet.client(placed.box) as client, client.tracks("cam0", timeout_s=20) as tracks:
            assert next(tracks).owner == placed.owner

    @pytest.mark.usefixtures("twelve")
    def test_what_is_published_is_mirrored_into_nats(self, fleet: TestFleet) -> None:
        placed = next(s for s in fleet.state().streams if s.stream == "hall.door")
        kinds = {"tracks": Tracks, "status": StreamRecord}
        for kind, record in kinds.items():
            data = asyncio.run(one_message(fleet.nats.url, f"tracker.hall=door.{kind}"))
            assert msgspec.msgpack.decode(data, type=record).owner == placed.owner

    @pytest.mark.usefixtures("twelve")
    def test_changed_settings_change_the_stream_on_its_box(self, fleet: TestFleet, film: Path) -> None:
        box = fleet.live()["cam1"]
        assert fleet.apply({"cam1": wanted(film, fps=1.0)}).changed == ["cam1"]
        with fleet.client(box) as client:
            fleet.wait_for(lambda live: live.get("cam1") == box and _fps(client, "cam1") == 1.0)

    def test_settings_that_no_box_can_serve_are_told_and_may_be_corrected(
        self, fleet: TestFleet, film: Path
    ) -> None:
        fleet.apply({"cam3": WantedStream(url="rtsp://127.0.0.1:1/secret")})
        fleet.wait_for(lambda live: "cam3" not in live and "allow_sources" in (_why_not(fleet, "cam3") or ""))
        fleet.apply({"cam3": wanted(film)})
        fleet.wait_for(lambda live: "cam3" in live and _why_not(fleet, "cam3") is None)

    def test_what_is_needed_binds_a_stream_to_the_boxes_that_have_it(self, fleet: TestFleet, film: Path) -> None:
        fleet.apply({"yard": wanted(film, needs={"site": "south"}), "moon": wanted(film, needs={"site": "moon"})})
        live = fleet.wait_for(lambda live: "yard" in live)
        assert live["yard"] == "south.1"
        assert "moon" not in live

    @pytest.mark.usefixtures("twelve")
    def test_removed_streams_leave_their_boxes(self, fleet: TestFleet) -> None:
        from tracker.fleet import people

        box = fleet.live()["cam2"]
        fleet.do(lambda buckets: people.remove(buckets, ["cam2"]))
        with fleet.client(box) as client:
            fleet.wait_for(lambda live: "cam2" not in live and _fps(client, "cam2") is None)

    def test_what_is_removed_and_wanted_again_at_once_is_there(self, fleet: TestFleet, film: Path) -> None:
        fleet.apply({}, prune=True)
        fleet.apply({name: wanted(film) for name in TWELVE})
        fleet.wait_for(lambda live: sorted(live) == sorted(TWELVE))

    @pytest.mark.usefixtures("twelve")
    def test_prune_removes_what_is_not_in_the_file(self, fleet: TestFleet, film: Path) -> None:
        applied = fleet.apply({"cam0": wanted(film)}, prune=True)
        assert set(applied.removed) == set(TWELVE) - {"cam0"}
        fleet.wait_for(lambda live: list(live) == ["cam0"])


async def one_message(nats_url: str, subject: str) -> bytes:
    connection = await nats.connect(nats_url)
    try:
        subscription = await connection.subscribe(subject)
        return (await subscription.next_msg(timeout=START_S)).data
    finally:
        await connection.close()


def _why_not(fleet: TestFleet, stream: str) -> str | None:
    return next(placed.message for placed in fleet.state().streams if placed.stream == stream)


def _fps(client: Client, stream: str) -> float | None:
    records = {record.stream: record for record in client.streams().streams}
    return records[stream].fps if stream in records else None


def test_a_claim_is_lost_to_a_greater_token_and_not_to_an_answer_that_was(fleet: TestFleet) -> None:
    async def claimed(buckets: Buckets) -> None:
        ours, newer = (Ownership(buckets, "claimed", Token(1, delivery)) for delivery in (1, 2))
        assert await ours.make("north-1") is None
        await buckets.claims.put("claimed", msgspec.json.encode(ours.claim))  # written by us; the answer was lost
        await ours.point_at_own_bundle()
        assert await newer.make("north-2") == ours.claim
        for write in (ours.look, ours.next_block, ours.point_at_own_bundle):
            with pytest.raises(Superseded):
                await write()
        await ours.end()
        await newer.point_at_own_bundle()
        await newer.end()
        assert (await entry_of(buckets.claims, "claimed")).value is None

    fleet.do(claimed)


def test_an_entry_is_deleted_only_by_who_wrote_it_last(fleet: TestFleet) -> None:
    async def deleted(*revisions: int) -> list[bool]:
        connection = await nats.connect(fleet.nats.url)
        bucket = await connection.jetstream().create_key_value(bucket="of-this-test")
        newest = await bucket.put("entry", b"the successor's")
        gone = []
        for revision in (*revisions, newest):
            await compare_and_delete(bucket, "entry", revision)
            gone.append((await entry_of(bucket, "entry")).value is None)
        await connection.close()
        return gone

    assert asyncio.run(deleted(0, 7)) == [False, False, True]
