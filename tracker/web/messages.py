"""What page and server say to each other over the WebSocket: JSON both ways, and pictures as bytes.

A picture message is the length of its head (4 bytes, little endian), the head as JSON, and the JPEG. The head has
the tracks of that very frame, so that an outline can never be drawn on another one.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from tracker.protocol.fields import StreamId
from tracker.protocol.messages import Event, FrameMessage, Status, Tracks
from tracker.protocol.replies import ServerInfo

PageSize = Annotated[int, Meta(ge=1, le=16384)]


class FromPage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class Call(FromPage, frozen=True, tag="call"):
    """An operation of the protocol; its reply carries `id`."""

    id: int
    op: str
    args: Raw = Raw(b"{}")


class Look(FromPage, frozen=True, tag="look"):
    """Streams that are on screen now, each with the width in device pixels. Only these are sent."""

    streams: Annotated[dict[StreamId, PageSize], Meta(max_length=256)]


class Drawn(FromPage, frozen=True, tag="drawn"):
    """A picture of the stream was taken in, so the next one may be sent."""

    stream: StreamId


class Ping(FromPage, frozen=True, tag="ping"):
    """The page compares its clock with the server's, and says how long the shortest of its pings was under way."""

    sent: float
    round_trip_s: Annotated[float, Meta(ge=0)] = 0.0


class ToPage(Struct, frozen=True, tag_field="kind", kw_only=True):
    pass


class Answer(ToPage, frozen=True, tag="answer"):
    id: int
    result: Any


class Refused(ToPage, frozen=True, tag="refused"):
    id: int
    code: str
    message: str


class Late(ToPage, frozen=True, tag="late"):
    """The daemon takes longer than usual; an `Answer` or a `Refused` comes all the same."""

    id: int
    message: str


class DaemonSeen(ToPage, frozen=True, tag="daemon"):
    """Whether the daemon answers; `message` says why not."""

    info: ServerInfo | None
    message: str | None = None


class StatusSeen(ToPage, frozen=True, tag="status"):
    status: Status


class EventSeen(ToPage, frozen=True, tag="event"):
    event: Event


class Pong(ToPage, frozen=True, tag="pong"):
    sent: float
    time: float  # Unix seconds


class PictureHead(Struct, frozen=True, kw_only=True):
    frame: FrameMessage
    tracks: Tracks | None  # None: those of this frame were lost on the way


def picture(frame: FrameMessage, tracks: Tracks | None, jpeg: bytes) -> bytes:
    head = msgspec.json.encode(PictureHead(frame=frame, tracks=tracks))
    return b"".join((len(head).to_bytes(4, "little"), head, jpeg))


FromPages = Call | Look | Drawn | Ping
_DECODER: msgspec.json.Decoder[FromPages] = msgspec.json.Decoder(FromPages)


class NotUnderstood(ValueError):
    """What came over the WebSocket is no message of a page."""


def read(received: Mapping[str, Any]) -> FromPages:
    """A page's message from what the WebSocket received. Raises NotUnderstood."""
    text = received.get("text")
    if text is None:
        raise NotUnderstood("bytes where a text is taken")
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(str(error)) from None
