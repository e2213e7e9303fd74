"""The client's half of the protocol without its sockets: requests to bytes, replies and messages from bytes."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from tracker import errors
from tracker.client.marks import plain
from tracker.client.requests import Request
from tracker.errors import BadRequest, TrackerError
from tracker.protocol.fields import PICTURE_WIDTHS, VERSION
from tracker.protocol.messages import Event, FrameMessage, Status, Tracks
from tracker.protocol.replies import ErrorBody

R = TypeVar("R", bound=Struct)
Body = Tracks | Event | FrameMessage | Status

_BODIES: dict[str, type[Body]] = {"tracks": Tracks, "events": Event, "frames": FrameMessage, "status": Status}
_ERRORS: dict[str, type[TrackerError]] = {
    kind.code: kind
    for kind in (
        errors.BadRequest,
        errors.UnsupportedVersion,
        errors.UnknownOp,
        errors.BadPrompt,
        errors.UnknownStream,
        errors.UnknownObject,
        errors.UnknownZone,
        errors.AlreadyExists,
        errors.NoFrame,
        errors.FrameGone,
        errors.RefGone,
        errors.TransferGone,
        errors.NoObject,
        errors.AtCapacity,
        errors.Forbidden,
        errors.TooLarge,
        errors.Unavailable,
    )
}


class _Answer(Struct, frozen=True, kw_only=True):
    ok: bool
    result: Raw = Raw(b"\xc0")
    error: ErrorBody = ErrorBody(code="internal", message="an error without a message")


@dataclass(frozen=True, slots=True)
class Message:
    """One published message.

    `lost` messages of the same topic went missing before this one. `restarted`: the daemon is another one than in
    the topic's last message, so frame, step and seq have begun anew. `moved`: the stream came to another box of its
    fleet, after `gap_s` seconds without a message; frame numbers have grown, seq and step have begun anew.
    """

    topic: str
    body: Body
    image: bytes | None = None
    lost: int = 0
    restarted: bool = False
    moved: bool = False
    gap_s: float = 0.0


def write_request(ask: Request[Any]) -> bytes:
    """Raises BadRequest for what has no place in MessagePack."""
    request = {"v": VERSION, "id": ask.id or os.urandom(16).hex(), "op": ask.operation.name, "args": ask.args}
    try:
        return msgspec.msgpack.encode(request, enc_hook=plain)
    except OverflowError:
        raise BadRequest(f"{ask.operation.name}: a whole number is beyond 64 bits") from None


def read_result(payload: bytes, result: type[R]) -> R:
    """What a reply carries. Raises the error that it carries instead."""
    try:
        answer = msgspec.msgpack.decode(payload, type=_Answer)
        if answer.ok:
            return msgspec.msgpack.decode(answer.result, type=result)
    except (ValueError, RecursionError):
        raise TrackerError(
            f"the reply is not of protocol version {VERSION}; is it a daemon that answers?"
        ) from None
    raise _ERRORS.get(answer.error.code, TrackerError)(answer.error.message)


def subscriptions(stream: str | None, topics: Iterable[str]) -> list[str]:
    """Topic prefixes for `topics` (tracks, events, status, frames/WIDTH) of one stream, or of all with None."""
    return [_subscription(stream, *topic.split("/")) for topic in topics]


def _subscription(stream: str | None, kind: str, *width: str) -> str:
    if kind not in _BODIES or bool(width) > (kind == "frames"):
        raise ValueError(f"{kind!r} is no topic; there are {', '.join(_BODIES)}, and frames/WIDTH")
    if (width and width[0] not in PICTURE_WIDTHS) or len(width) > 1:
        raise ValueError(f"frames/{'/'.join(width)} is never published; frames/ has {', '.join(PICTURE_WIDTHS)}")
    if kind == "status" or stream is None:
        if width:
            raise ValueError("name the stream whose frames of one width are wanted")
        return f"{kind}/"
    return "/".join([kind, stream, *width, ""])


def tracks_of(message: Message) -> Tracks:
    """The body of a message of the topic `tracks`."""
    assert isinstance(message.body, Tracks)
    return message.body


class Reader:
    """Published messages from their parts, with an eye on the numbers of each topic."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}  # topic -> instance, seq

    def read(self, parts: list[bytes]) -> Message:
        """Raises TrackerError for what is not of this protocol."""
        topic = parts[0].decode(errors="replace")
        body = _read_body(topic, parts[1:])
        image = parts[2] if len(parts) > 2 else None
        instance, seq = self._last.get(topic, (body.instance, body.seq - 1))
        self._last[topic] = (body.instance, body.seq)
        if body.instance != instance:
            return Message(topic, body, image, lost=body.seq, restarted=True)
        return Message(topic, body, image, lost=body.seq - seq - 1)


def _read_body(topic: str, parts: list[bytes]) -> Body:
    kind = topic.partition("/")[0]
    try:
        return msgspec.msgpack.decode(parts[0], type=_BODIES[kind])
    except (ValueError, RecursionError, KeyError, IndexError) as error:
        raise TrackerError(f"a message of {topic!r} is not of protocol version {VERSION}") from error
