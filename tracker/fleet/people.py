"""What people ask of a fleet: which streams are wanted, where they are, and that a box or a stream is moved."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import Struct
from nats.errors import Error as NatsError

from tracker.client.nats_connection import close_nats, connect_nats, not_answered
from tracker.client.nats_options import NatsOptions
from tracker.config import STREAM_NAME
from tracker.config.wording import name_problem
from tracker.errors import BadRequest, UnknownStream
from tracker.fleet.buckets import Buckets, entry_of
from tracker.fleet.queueing import forget_needs, forget_other_subjects, queue_missing, unqueue
from tracker.fleet.reading import all_entries, is_deleted, newest_messages
from tracker.fleet.records import BOXES, CLAIMS, NEEDS, ORDERS, WANTED, BoxRecord, Claim, decoded
from tracker.fleet.settings import WantedStream, to_json
from tracker.protocol.placement import WHERE, Where, key_of, name_of, where_of

R = TypeVar("R")

MARKS_S = 3600  # for so long a removed entry leaves a mark that watchers see


class Placed(Struct, frozen=True, kw_only=True):
    """A wanted stream, and where it is."""

    stream: str
    box: str | None = None  # None: nowhere
    state: str | None = None
    owner: str | None = None
    url: str
    needs: dict[str, Any] = {}
    message: str | None = None  # why it is nowhere


class FleetState(Struct, frozen=True, kw_only=True):
    boxes: list[BoxRecord]
    drained: list[str]
    streams: list[Placed]


class Applied(Struct, frozen=True, kw_only=True):
    added: list[str]
    changed: list[str]
    removed: list[str]


async def ask(options: NatsOptions, work: Callable[[Buckets], Awaitable[R]]) -> R:
    """Over a connection of its own. Raises ConfigError where NATS or its JetStream does not answer."""
    connection = await connect_nats(options, "trackerd fleet")
    try:
        return await work(await Buckets.open(connection))
    except (NatsError, TimeoutError, ConnectionError) as error:
        raise not_answered(options, error) from None
    finally:
        await close_nats(connection)


async def apply(buckets: Buckets, wanted: dict[str, WantedStream], *, prune: bool) -> Applied:
    """Want these streams; with `prune`, no others. What is as wanted already stays as it is."""
    await _forget_marks(buckets)
    before = await all_entries(buckets.js, WANTED)
    added: list[str] = []
    changed: list[str] = []
    for stream, settings in wanted.items():
        old = before.get(key_of(stream))
        if old == to_json(settings):
            continue
        (changed if old else added).append(stream)
        await buckets.wanted.put(key_of(stream), to_json(settings))
        if old is not None:
            await forget_other_subjects(buckets, stream, settings)
    await queue_missing(buckets)
    there = [name for name in map(name_of, before) if name_problem(name, STREAM_NAME) is None]
    surplus = [name for name in there if prune and name not in wanted]
    for stream in surplus:
        await _remove(buckets, stream)
    await forget_needs(buckets)
    return Applied(added=added, changed=changed, removed=surplus)


async def remove(buckets: Buckets, streams: Sequence[str]) -> None:
    """Want streams no longer. Raises BadRequest, UnknownStream, and then removes none."""
    for stream in streams:
        check_name("stream", stream)
        if (await entry_of(buckets.wanted, key_of(stream))).value is None:
            await _no_such_stream(buckets, stream)
    for stream in streams:
        await _remove(buckets, stream)
    await forget_needs(buckets)


async def _remove(buckets: Buckets, stream: str) -> None:
    """Out of the queue first: nobody takes it anew. Who takes it when it is wanted again, begins from nothing."""
    key = key_of(stream)
    await unqueue(buckets, stream)
    await buckets.claims.purge(key)
    await buckets.wanted.purge(key)
    await buckets.orders.purge(f"move.{key}")


async def _forget_marks(buckets: Buckets) -> None:
    """What removed entries leave. Not by `KeyValue.purge_deletes`: that takes with it what is written meanwhile."""
    now = datetime.now(UTC)
    with contextlib.suppress(TimeoutError):
        for name in (WANTED, CLAIMS, WHERE, ORDERS, NEEDS):
            for subject, entry in (await newest_messages(buckets.js, f"KV_{name}", f"$KV.{name}.>")).items():
                assert entry.time is not None, "JetStream says it of each"
                if is_deleted(entry.headers) and (now - entry.time).total_seconds() >= MARKS_S:
                    await buckets.js.purge_stream(f"KV_{name}", subject=subject, seq=(entry.seq or 0) + 1)


def check_name(what: str, name: str) -> None:
    """Before it is part of a subject, where it might stand for others as well."""
    if (problem := name_problem(name, STREAM_NAME)) is not None:
        raise BadRequest(f"{what}: {problem}")


async def whereabouts(buckets: Buckets, stream: str) -> Where:
    """Raises UnknownStream."""
    where = where_of((await entry_of(buckets.where, key_of(stream))).value or b"")
    if where is None:
        if (await entry_of(buckets.wanted, key_of(stream))).value is None:
            await _no_such_stream(buckets, stream)
        raise UnknownStream(f"stream: {stream!r} is nowhere yet; trackerd fleet ls says why")
    return where


async def _no_such_stream(buckets: Buckets, stream: str) -> None:
    names = ", ".join(sorted(map(name_of, await all_entries(buckets.js, WANTED))))
    raise UnknownStream(f"stream: the fleet has no stream {stream!r}; there: {names or 'none'}")


async def boxes(buckets: Buckets) -> list[BoxRecord]:
    found = [decoded(data, BoxRecord) for data in (await all_entries(buckets.js, BOXES)).values()]
    return sorted([record for record in found if record is not None], key=lambda record: record.box)


async def state(buckets: Buckets) -> FleetState:
    where = await all_entries(buckets.js, WHERE)
    claims = await all_entries(buckets.js, CLAIMS)
    orders = await all_entries(buckets.js, ORDERS)
    placed = []
    for key, data in sorted((await all_entries(buckets.js, WANTED)).items()):
        settings = decoded(data, WantedStream) or WantedStream(url="?")  # of a later version
        if name_problem(name_of(key), STREAM_NAME) is None:
            placed.append(_placed(name_of(key), settings, where.get(key, b""), claims.get(key, b"")))
    drained = [name_of(key.removeprefix("drain.")) for key in orders if key.startswith("drain.")]
    return FleetState(boxes=await boxes(buckets), drained=sorted(drained), streams=placed)


def _placed(stream: str, settings: WantedStream, where_data: bytes, claim_data: bytes) -> Placed:
    where, claim = where_of(where_data), decoded(claim_data, Claim)
    return Placed(
        stream=stream,
        box=where.box if where else None,
        state=where.state if where else None,
        owner=where.owner if where else None,
        url=settings.url,
        needs=settings.needs,
        message=claim.message if claim else None,
    )
