"""What a page may ask of the daemon: operations of the protocol, checked by the protocol's own structs."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from tracker import protocol as p
from tracker.calls import SEGMENT_ALL_S, Ask
from tracker.client import AsyncClient
from tracker.errors import BadRequest, UnknownOp
from tracker.outline import fill_outline
from tracker.rle import rle_encode

RESULTS: dict[str, type[Struct]] = {
    "server.info": p.ServerInfo,
    "streams.list": p.StreamList,
    "streams.add": p.StreamRecord,
    "streams.remove": p.StreamRecord,
    "streams.pause": p.StreamRecord,
    "streams.resume": p.StreamRecord,
    "objects.add": p.ObjectResult,
    "objects.refine": p.ObjectResult,
    "objects.update": p.ObjectEntry,
    "objects.remove": p.Removed,
    "objects.list": p.ObjectList,
    "segment.prompt": p.Candidates,
    "segment.all": p.FoundMasks,
    "segment.cancel": p.Empty,
    "history.list": p.EventList,
}
SLOW_S = {"segment.all": SEGMENT_ALL_S, "segment.prompt": 30.0, "objects.add": 30.0, "objects.refine": 30.0}


class Drawing(Struct, frozen=True, forbid_unknown_fields=True):
    """A mask as the page has it: the outline of a candidate that it was sent before."""

    outline: p.Outline
    size: p.SizeWh


class Wrapped(Struct, frozen=True):
    """The two arguments that are not the operation's own."""

    drawing: Drawing | None = None
    job: str | None = None


async def ask(client: AsyncClient, op: str, args: Raw) -> Struct:
    """Carry an operation out. Raises TrackerError as the daemon words it, or BadRequest at the door.

    `drawing` among the arguments becomes the `mask`; `job` is the id by which `segment.all` can be cancelled.
    """
    if op not in RESULTS:
        raise UnknownOp(f"{op!r} is not served to pages; there are {', '.join(RESULTS)}")
    try:
        fields = msgspec.json.decode(args, type=dict[str, Any])
        wrapped = msgspec.convert({key: fields.pop(key) for key in ("drawing", "job") if key in fields}, Wrapped)
        struct = msgspec.convert(fields, p.OPERATIONS[op])
    except msgspec.MsgspecError as error:
        raise BadRequest(str(error)) from None
    if wrapped.drawing:
        struct = msgspec.structs.replace(struct, mask=mask_of(wrapped.drawing))
    return await client.call(Ask(op, struct, RESULTS[op], wrapped.job, SLOW_S.get(op)))


def mask_of(drawing: Drawing) -> p.Rle:
    w, h = drawing.size
    if not (0 < w <= 2**14 and 0 < h <= 2**14):
        raise BadRequest(f"drawing.size: {w} × {h} is no size of a frame")
    mask_hw = fill_outline(drawing.outline, drawing.size)
    return p.Rle((h, w), rle_encode(mask_hw))


async def snapshot(client: AsyncClient, fields: dict[str, str]) -> p.FrameImage:
    """`frames.get` from the texts of an address; `newest` names no frame."""
    known = {field.name for field in msgspec.structs.fields(p.FramesGet)}
    optional = {"pin_s"} - known  # a daemon that keeps no frame on request gives it all the same
    args = {key: text for key, text in fields.items() if key not in optional and (key, text) != ("frame", "newest")}
    try:
        struct = msgspec.convert(args, p.FramesGet, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    return await client.call(Ask("frames.get", struct, p.FrameImage))
