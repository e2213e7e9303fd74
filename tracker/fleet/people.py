"""What people ask of a fleet: which streams are wanted, where they are, and that a box or a stream is moved."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.errors import ServiceUnavailableError

from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.config import STREAM_NAME
from tracker.config.wording import name_problem
from tracker.errors import BadRequest, ConfigError, UnknownStream
from tracker.fleet.buckets import Buckets, ensure_consumer, entry_of
from tracker.fleet.reading import NO_JETSTREAM, all_entries
from tracker.fleet.records import (
    BOXES,
    CLAIMS,
    NEEDS,
    ORDERS,
    QUEUE,
    QUEUE_SUBJECT,
    WANTED,
    BoxRecord,
    Claim,
    Order,
    decoded,
    needs_key,
    queue_subject,
    satisfied,
)
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
    except (TimeoutError, NoRespondersError, ServiceUnavailableError):
        raise ConfigError([f"{options.shown}: {NO_JETSTREAM}"]) from None
    except (NatsError, ConnectionError) as error:
        raise ConfigError([f"{options.shown}: NATS: {str(error).removeprefix('nats: ')}"]) from None
    finally:
        await close_nats(connection)


async def apply(buckets: Buckets, wanted: dict[str, WantedStream], *, prune: bool) -> Applied:
    """Want these streams; with `prune`, no others. What is as wanted already stays as it is."""
    for bucket in (buckets.wanted, buckets.claims, buckets.where, buckets.orders):
        await bucket.purge_deletes(MARKS_S)
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
            await _forget_other_subjects(buckets, stream, settings)
    await _queue_missing(buckets)
    surplus = [name_of(key) for key in before if prune and name_of(key) not in wanted]
    for stream in surplus:
        await remove(buckets, stream)
    return Applied(added=added, changed=changed, removed=surplus)


async def _forget_other_subjects(buckets: Buckets, stream: str, settings: WantedStream) -> None:
    """Where the needs changed, boxes are to hear of the stream by its new ones alone."""
    for subject in await _queued(buckets, f"{QUEUE_SUBJECT}.*.{key_of(stream)}"):
        if subject != queue_subject(stream, settings.needs):
            await buckets.js.purge_stream(QUEUE, subject=subject)


async def _queue_missing(buckets: Buckets) -> None:
    """A message in the work queue for each wanted stream that has none: new ones, and those of an `apply` that was
    cut short."""
    known_needs = await all_entries(buckets.js, NEEDS)
    queued = await _queued(buckets, f"{QUEUE_SUBJECT}.>")
    for key, data in (await all_entries(buckets.js, WANTED)).items():
        settings: WantedStream | None = decoded(data, WantedStream)
        if settings is None:
            continue
        needs = needs_key(settings.needs)
        if needs not in known_needs:
            await ensure_consumer(buckets.js, settings.needs)
            known_needs[needs] = msgspec.json.encode(settings.needs)
            await buckets.needs.put(needs, known_needs[needs])
        subject = f"{QUEUE_SUBJECT}.{needs}.{key}"
        if subject not in queued:
            await buckets.js.publish(subject, b"")


async def _queued(buckets: Buckets, subjects: str) -> set[str]:
    info = await buckets.js.stream_info(QUEUE, subjects_filter=subjects)
    return set(info.state.subjects or {})


async def remove(buckets: Buckets, stream: str) -> None:
    """Want a stream no longer. Raises BadRequest, UnknownStream."""
    _check_name("stream", stream)
    entry = await entry_of(buckets.wanted, key_of(stream))
    if entry.value is None:
        await _no_such_stream(buckets, stream)
    await buckets.js.purge_stream(
        QUEUE, subject=f"{QUEUE_SUBJECT}.*.{key_of(stream)}"
    )  # first: nobody takes it anew
    await buckets.claims.purge(
        key_of(stream)
    )  # whoever takes the stream when it is wanted anew, begins from nothing
    await buckets.wanted.purge(key_of(stream))
    await buckets.orders.purge(f"move.{key_of(stream)}")


async def drain(buckets: Buckets, box: str, *, undo: bool = False) -> None:
    """Have a box give all its streams to others, and take none until `undo`. Raises BadRequest."""
    _check_name("box", box)
    key = f"drain.{key_of(box)}"
    if undo:
        if (await entry_of(buckets.orders, key)).value is None:
            raise BadRequest(f"box: {box!r} is not drained")
        await buckets.orders.purge(key)
        return
    if box not in [record.box for record in await boxes(buckets)]:
        names = ", ".join(sorted(record.box for record in await boxes(buckets))) or "none"
        raise BadRequest(f"box: no box is called {box!r}; there: {names}")
    await buckets.orders.put(key, msgspec.json.encode(Order(kind="drain", time=time.time(), box=box)))


async def move(buckets: Buckets, stream: str, to: str | None) -> None:
    """Have a stream go to another box: `to`, or any. Raises UnknownStream, BadRequest."""
    _check_name("stream", stream)
    where = await whereabouts(buckets, stream)
    known = {record.box: record for record in await boxes(buckets)}
    if to is not None:
        if to not in known:
            raise BadRequest(f"to: no box is called {to!r}; there: {', '.join(sorted(known)) or 'none'}")
        if to == where.box:
            raise BadRequest(f"to: stream {stream!r} is on {to} already")
        wanted = decoded((await entry_of(buckets.wanted, key_of(stream))).value, WantedStream)
        if wanted is not None and not satisfied(wanted.needs, known[to].labels):
            raise BadRequest(f"to: {to} has not what stream {stream!r} needs: {wanted.needs}")
        if known[to].message:
            raise BadRequest(f"to: {to} takes no streams: {known[to].message}")
    order = Order(kind="move", time=time.time(), box=where.box, to=to)
    await buckets.orders.put(f"move.{key_of(stream)}", msgspec.json.encode(order))


def _check_name(what: str, name: str) -> None:
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
        settings: WantedStream | None = decoded(data, WantedStream)
        if settings is not None:
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
