"""Records that others wrote into NATS: each field of each kind has bounds, and what is beyond them is no record."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, until
from helpers.fleets import nats_server
from tracker.client.nats_options import NatsOptions
from tracker.fleet import people
from tracker.fleet.buckets import Buckets
from tracker.fleet.bundles import Bundle
from tracker.fleet.records import FRAMES_BLOCK, MAX_NUMBER, BoxRecord, Claim, Order, decoded
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.placement import Where
from tracker.protocol.records import StreamRecord

BEYOND = [-1, 0.5, 2**53, 2**63, 2**64 + 5, 10**30, "1", None]
TIMES = [-1, 1e12, 1e300, "now", None]
NAMES = ["", "Upper", "a b", "*", "\x1b[31m", "a\n", "x" * 65, 5, None]
TOKENS = ["", "1", "1.2.3", "-1.1", "1.1\n", f"{'9' * 16}.1", f"1.{'9' * 16}", 1.2, None]
TEXTS = ["x" * 5000, 5]
ENDPOINTS = ["127.0.0.1:1", "http://x", "tcp://", "tcp://a\nb", f"ipc://{'x' * 400}", 5, None]
LABELS = [
    {"": 1},
    {"x" * 65: 1},
    {"site": 2**64},
    {"site": None},
    {"site": []},
    {str(i): 1 for i in range(17)},
    [],
    None,
]

SOUND: dict[Any, dict[str, Any]] = {
    Claim: {"owner": "1.2", "box": "north", "frames_end": 1, "epochs_end": 1},
    BoxRecord: {"box": "north", "time": 1.0},
    Order: {"kind": "move", "time": 1.0, "box": "north"},
    Where: {"stream": "cam", "box": "north", "owner": "1.2", "control": "tcp://h:1", "publish": "tcp://h:2"},
    WantedStream: {"url": "file:///film.mp4"},
}
CASES: list[tuple[Any, str, list[Any]]] = [
    (Claim, "owner", TOKENS),
    (Claim, "box", NAMES),
    (Claim, "frames_end", BEYOND),
    (Claim, "epochs_end", BEYOND),
    (Claim, "bundle", TOKENS[:-1]),
    (Claim, "message", TEXTS),
    (Claim, "hold", [{"message": place, "settings": "{}"} for place in ("", "$JS.ACK", "$JS.ACK.>", "other", 5)]),
    (Claim, "hold", [{}, [], 5, {"message": "$JS.ACK.q.any.1.1.1.1.0", "settings": {}}]),
    (BoxRecord, "box", NAMES),
    (BoxRecord, "time", TIMES),
    (BoxRecord, "labels", LABELS),
    *((BoxRecord, name, BEYOND) for name in ("streams", "streams_room", "objects", "objects_room")),
    (BoxRecord, "version", TEXTS),
    (BoxRecord, "message", TEXTS),
    (BoxRecord, "instance", TEXTS),
    (Order, "kind", ["stop", 5, None]),
    (Order, "time", TIMES),
    (Order, "box", NAMES),
    (Order, "to", NAMES[:-1]),
    (Where, "stream", NAMES),
    (Where, "box", NAMES),
    (Where, "owner", TOKENS),
    (Where, "control", ["", *ENDPOINTS]),
    (Where, "publish", ENDPOINTS),
    (Where, "key", ["", "x" * 39, "x" * 41, 5]),
    (Where, "state", ["", "away", 5, None]),
    (WantedStream, "fps", [-1, 0, "5"]),
    (WantedStream, "size", [[0, 1], [-1, 1], [2**31, 1], [10**30, 1], [1], 5]),
    (WantedStream, "min_fps", [-1, "5", None]),
    (WantedStream, "priority", [-1, 101, 0.5]),
    (WantedStream, "needs", LABELS),
]


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_record_is_one(kind: Any) -> None:
    assert isinstance(decoded(json.dumps(SOUND[kind]).encode(), kind), kind)


@pytest.mark.parametrize(("kind", "field", "values"), CASES, ids=lambda one: getattr(one, "__name__", None))
def test_what_is_beyond_its_bounds_is_no_record(kind: Any, field: str, values: list[Any]) -> None:
    for value in values:
        data = json.dumps({**SOUND[kind], field: value}).encode()
        assert decoded(data, kind) is None, value


@pytest.mark.parametrize("next_object", [0, -1, 2**31, 2**64 - 1, None])
def test_a_bundle_with_impossible_ids_is_none(next_object: int | None) -> None:
    data = msgspec.msgpack.encode({"objects": [], "next_object": next_object})
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=Bundle)


CLAIMED: dict[str, dict[str, Any]] = {
    "frames beyond all numbers": {"frames_end": 2**64 + 5},
    "frames at the end of all numbers": {"frames_end": MAX_NUMBER},
    "an owner beyond all numbers": {"owner": f"{'9' * 19}.{'9' * 19}"},
}


@pytest.mark.nats
@pytest.mark.timeout(240)
@pytest.mark.parametrize("what", CLAIMED)
def test_a_claim_that_a_stranger_wrote_keeps_no_stream_from_being_served(what: str, tmp_path: Path) -> None:
    data = json.dumps({**SOUND[Claim], "owner": "0.1", **CLAIMED[what]}).encode()

    async def work(url: str) -> None:
        daemon = SimulatedDaemon()
        async with box_of(NatsConfig(servers=(url,)), daemon), asked(NatsOptions([url])) as buckets:
            await buckets.claims.put("cam", data)
            await people.apply(buckets, {"cam": WantedStream(url="file:///film.mp4")}, prune=False)

            async def is_served() -> bool:
                return bool(await daemon.streams())

            await until(is_served)
            (record,) = await daemon.streams()
            assert record.decoded <= MAX_NUMBER
            await until(lambda: _is_claimed_soundly(buckets, record))

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), 180.0))


async def _is_claimed_soundly(buckets: Buckets, record: StreamRecord) -> bool:
    """So that whoever takes the stream next finds a claim, and numbers above those of this owner."""
    claim = decoded((await buckets.claims.get("cam")).value, Claim)
    return (
        claim is not None and claim.owner == record.owner and claim.frames_end >= record.decoded + FRAMES_BLOCK // 2
    )
