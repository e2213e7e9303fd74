"""Streams that people have moved: one off its box, or all. None is given away that nobody can take."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tracker.errors import BadRequest, Unavailable
from tracker.fleet import people
from tracker.fleet.buckets import Buckets, compare_and_delete, entry_of
from tracker.fleet.people import check_name, whereabouts
from tracker.fleet.queueing import Needy
from tracker.fleet.reading import all_entries
from tracker.fleet.records import BoxRecord, Claim, Order, decoded, satisfied
from tracker.protocol.placement import WHERE, Where, key_of, where_of

PATIENCE_S = 30.0  # with boxes that do not take a stream
LOOK_S = 0.2
MAX_SHOWN = 20  # streams in one line

Reasons = dict[str, str | None]  # why a box cannot take a stream, by its name; None: it can


async def move(buckets: Buckets, stream: str, to: str | None) -> str:
    """Have a stream go to another box: `to`, or any. Returns the one that took it.

    Raises UnknownStream, BadRequest, and Unavailable where nobody takes it: then it stays.
    """
    check_name("stream", stream)
    where = await whereabouts(buckets, stream)
    await _check_target(buckets, where, to)
    await _until_one_can(buckets, where, to)
    key = f"move.{key_of(stream)}"
    order = Order(kind="move", time=time.time(), box=where.box, to=to)
    ordered = await buckets.orders.put(key, msgspec.json.encode(order))
    try:
        return await _until_taken(buckets, where, to)
    finally:  # done or not: who has it, or gets it next, is free; somebody else's order stays
        await compare_and_delete(buckets.orders, key, ordered)


async def drain(buckets: Buckets, box: str) -> None:
    """Have a box give all its streams to others, and take none until that is undone. Raises BadRequest."""
    check_name("box", box)
    there = [record.box for record in await people.boxes(buckets)]
    if box not in there:
        raise BadRequest(f"box: no box is called {box!r}; there: {', '.join(there) or 'none'}")
    order = Order(kind="drain", time=time.time(), box=box)
    await buckets.orders.put(_drain_key(box), msgspec.json.encode(order))


async def undo_drain(buckets: Buckets, box: str) -> None:
    """Raises BadRequest."""
    check_name("box", box)
    if not await _is_drained(buckets, box):
        raise BadRequest(f"box: {box!r} is not drained")
    await buckets.orders.purge(_drain_key(box))


async def until_drained(buckets: Buckets, box: str, tell: Callable[[list[str]], None]) -> None:
    """Until the box has no stream any more; `tell` hears which it still has, whenever that changes.

    Raises Unavailable where for PATIENCE_S none has left.
    """
    left: list[str] = []
    changed_s = time.monotonic()
    while True:
        places = map(where_of, (await all_entries(buckets.js, WHERE)).values())
        there = sorted(where.stream for where in places if where is not None and where.box == box)
        if not there:
            return
        if there != left:
            tell(there)
            left, changed_s = there, time.monotonic()
        if time.monotonic() - changed_s > PATIENCE_S:
            raise Unavailable(await _why_left(buckets, box, left))
        await asyncio.sleep(LOOK_S)


async def _why_left(buckets: Buckets, box: str, streams: list[str]) -> str:
    first = await whereabouts(buckets, streams[0])
    why = _in_words(await _reasons(buckets, first, None))
    return (
        f"box: {box} still has {shown(streams)}: for {PATIENCE_S:g} s nobody took one. {first.stream}: {why}. "
        "The box stays drained: they go as soon as another can take them"
    )


def shown(streams: list[str]) -> str:
    more = len(streams) - MAX_SHOWN
    return ", ".join(streams[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


async def _check_target(buckets: Buckets, where: Where, to: str | None) -> None:
    """Raises BadRequest where it is certain that the stream cannot go there, or anywhere."""
    there = sorted(record.box for record in await people.boxes(buckets))
    if to is not None and to not in there:
        raise BadRequest(f"to: no box is called {to!r}; there: {', '.join(there) or 'none'}")
    if to == where.box:
        raise BadRequest(f"to: stream {where.stream!r} is on {to} already")
    reasons = await _reasons(buckets, where, to, for_good=True)
    if None not in reasons.values():
        raise BadRequest(f"stream: {where.stream!r} stays on {where.box}: {_in_words(reasons)}")


async def _until_one_can(buckets: Buckets, where: Where, to: str | None) -> None:
    """Raises Unavailable where no box can take the stream: then it is not even given away."""
    deadline_s = time.monotonic() + PATIENCE_S
    while None not in (reasons := await _reasons(buckets, where, to)).values():
        if time.monotonic() > deadline_s:
            raise Unavailable(f"stream: {where.stream!r} stays on {where.box}: {_in_words(reasons)}")
        await asyncio.sleep(LOOK_S)


async def _until_taken(buckets: Buckets, before: Where, to: str | None) -> str:
    """Raises Unavailable where nobody takes it, UnknownStream where it is removed."""
    key = key_of(before.stream)
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        now = where_of((await entry_of(buckets.where, key)).value or b"")
        if now is not None and now.token > before.token and now.box != before.box:
            if to not in (None, now.box):
                raise Unavailable(
                    f"stream: {before.stream!r} went to {now.box}, and not to {to}: others move it too"
                )
            return now.box
        claim: Claim | None = decoded((await entry_of(buckets.claims, key)).value, Claim)
        if to is not None and claim is not None and claim.token > before.token and claim.message:
            raise Unavailable(f"stream: {before.stream!r} goes back to {before.box}: {claim.message}")
        await asyncio.sleep(LOOK_S)
    await whereabouts(buckets, before.stream)
    reasons = await _reasons(buckets, before, to)
    raise Unavailable(
        f"stream: nobody took {before.stream!r} within {PATIENCE_S:g} s, and it stays on {before.box}: "
        f"{_in_words(reasons)}"
    )


async def _reasons(buckets: Buckets, where: Where, to: str | None, *, for_good: bool = False) -> Reasons:
    """Of the box that it is to go to, or of all but the one that it is on; those that last, or all."""
    entry = await entry_of(buckets.wanted, key_of(where.stream))
    wanted: Needy | None = decoded(entry.value, Needy)
    needs = wanted.needs if wanted is not None else {}
    records = [record for record in await people.boxes(buckets) if record.box != where.box]
    reasons: Reasons = {} if to is None else {to: "it is gone"}
    for record in records:
        if to in (None, record.box):
            lasting = await _why_never(buckets, record, needs)
            reasons[record.box] = lasting if for_good else lasting or record.message
    return reasons


async def _why_never(buckets: Buckets, record: BoxRecord, needs: dict[str, Any]) -> str | None:
    """Until people change it."""
    if not satisfied(needs, record.labels):
        return f"it has not what the stream needs, {needs}"
    return "it is drained" if await _is_drained(buckets, record.box) else None


def _in_words(reasons: Reasons) -> str:
    words = [f"{box}: {why_not or 'it could, and did not ask for it'}" for box, why_not in sorted(reasons.items())]
    return "; ".join(words) or "there is no other box"


async def _is_drained(buckets: Buckets, box: str) -> bool:
    return (await entry_of(buckets.orders, _drain_key(box))).value is not None


def _drain_key(box: str) -> str:
    return f"drain.{key_of(box)}"
