"""What a page may ask of the daemon: operations of the protocol, checked by the protocol's own structs."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tracker.client import AsyncClient
from tracker.client.connection import TIMEOUT_S
from tracker.client.requests import SEGMENT_ALL_S, Request
from tracker.config.wording import place_and_words
from tracker.errors import BadRequest, Timeout, UnknownOp
from tracker.masks.outline import fill_outline
from tracker.masks.rle import rle_encode
from tracker.protocol import operations as o
from tracker.protocol import replies
from tracker.protocol.fields import Outline, Rle, SizeWh
from tracker.protocol.requests import FramesGet

# What the page has a use for. Pictures go by HTTP, where browsers decode them beside the page's scripts.
SERVED: dict[str, o.Operation[Any, Any]] = {
    operation.name: operation
    for operation in (
        *(o.SERVER_INFO, o.STREAMS_LIST, o.STREAMS_ADD, o.STREAMS_REMOVE, o.STREAMS_PAUSE, o.STREAMS_RESUME),
        *(o.OBJECTS_ADD, o.OBJECTS_REFINE, o.OBJECTS_UPDATE, o.OBJECTS_REMOVE, o.OBJECTS_LIST),
        *(o.SEARCH_SIMILAR, o.WATCH_ADD, o.WATCH_LIST, o.WATCH_REMOVE),
        *(o.ZONES_SET, o.ZONES_REMOVE, o.ZONES_LIST),
        *(o.SEGMENT_PROMPT, o.SEGMENT_ALL, o.SEGMENT_CANCEL, o.HISTORY_LIST),
    )
}
SLOW_S = {"segment.all": SEGMENT_ALL_S, "segment.prompt": 30.0, "objects.add": 30.0, "objects.refine": 30.0}
LATE_S = 60.0  # the answer to what may be done still is waited for so much longer
LATE = "the daemon has not answered yet; it may still do it"


class Drawing(Struct, frozen=True, forbid_unknown_fields=True):
    """A mask as the page has it: the outline of a candidate that it was sent before."""

    outline: Outline
    size: SizeWh


class Wrapped(Struct, frozen=True):
    """The two arguments that are not the operation's own."""

    drawing: Drawing | None = None
    job: str | None = None


def late_after_s(op: str) -> float | None:
    """When to say that the daemon has not answered yet; None of what changes nothing: that is given up instead."""
    return None if op not in SERVED or SERVED[op].reads else SLOW_S.get(op, TIMEOUT_S)


async def ask(client: AsyncClient, op: str, args: Raw) -> Struct:
    """Carry an operation out. Raises TrackerError as the daemon words it, or BadRequest at the door.

    `drawing` among the arguments becomes the `mask`; `job` is the id by which `segment.all` can be cancelled.
    """
    if op not in SERVED:
        raise UnknownOp(f"{op!r} is not served to pages; there are {', '.join(SERVED)}")
    operation = SERVED[op]
    try:
        fields = msgspec.json.decode(args, type=dict[str, Any])
        own = {key: fields.pop(key) for key in ("drawing", "job") if key in fields}
        wrapped = msgspec.convert(own, Wrapped)
        struct = msgspec.convert(fields, operation.args)
    except (ValueError, RecursionError) as error:
        raise _refused(error) from None
    if wrapped.drawing and "mask" not in operation.args.__struct_fields__:
        raise BadRequest(f"drawing: {op} takes none")
    if wrapped.drawing:
        await _check_size(client, struct.stream, wrapped.drawing.size)
        mask = await asyncio.to_thread(mask_of, wrapped.drawing)
        struct = msgspec.structs.replace(struct, mask=mask)
    return await _carry_out(client, op, Request(operation, struct, wrapped.job, SLOW_S.get(op)))


async def _carry_out(client: AsyncClient, op: str, request: Request[Struct]) -> Struct:
    late_s = late_after_s(op)
    if late_s is None:
        return await client.call(request)
    timeout_s = late_s + LATE_S
    try:
        return await client.call(replace(request, timeout_s=timeout_s))
    except Timeout:
        words = f"the daemon has not answered within {timeout_s:g} s; whether it has done it, is not known"
        raise Timeout(words) from None


async def _check_size(client: AsyncClient, stream: str, size_wh: SizeWh) -> None:
    """A mask takes as much memory as its frame: of no other size is one drawn."""
    there = {record.stream: record.size for record in (await client.streams()).streams}
    if there.get(stream) != size_wh:
        raise BadRequest(f"drawing.size: {size_wh[0]} × {size_wh[1]} is not the size of {stream!r}'s frames")


def mask_of(drawing: Drawing) -> Rle:
    w, h = drawing.size
    try:
        mask_hw = fill_outline(drawing.outline, drawing.size)
    except ValueError as error:
        raise BadRequest(f"drawing.outline: {error}") from None
    return Rle((h, w), rle_encode(mask_hw))


async def snapshot(client: AsyncClient, fields: dict[str, str]) -> replies.FrameImage:
    """`frames.get` from the texts of an address; `newest` names no frame."""
    known = {field.name for field in msgspec.structs.fields(FramesGet)}
    optional = {"pin_s"} - known  # a daemon that keeps no frame on request gives it all the same
    args = {key: text for key, text in fields.items() if key not in optional and (key, text) != ("frame", "newest")}
    try:
        struct = msgspec.convert(args, FramesGet, strict=False)
    except msgspec.ValidationError as error:
        raise _refused(error) from None
    return await client.call(Request(o.FRAMES_GET, struct))


def _refused(error: Exception) -> BadRequest:
    """What msgspec says of arguments, in words, with its place where it has one."""
    place, words = place_and_words(error)
    return BadRequest(f"{place.lstrip('.')}: {words}".removeprefix(": "))
