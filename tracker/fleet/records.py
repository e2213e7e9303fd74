"""What the boxes of a fleet keep in NATS besides `where`: names, subjects, and a record for each bucket."""

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tracker.config import STREAM_NAME
from tracker.fleet.settings import Labels
from tracker.protocol.placement import Token, TokenText, key_of

QUEUE = "tracker-queue"  # the work queue of wanted streams, a message for each
QUEUE_SUBJECT = "tracker-fleet.queue"  # QUEUE_SUBJECT.<needs>.<stream>
WANTED = "tracker-wanted"  # bucket: stream -> WantedStream
NEEDS = "tracker-needs"  # bucket: key of needs -> the needs
CLAIMS = "tracker-claims"  # bucket: stream -> Claim
BOXES = "tracker-boxes"  # bucket: box -> BoxRecord; ends after BOX_TTL_S
ORDERS = "tracker-orders"  # bucket: drain.<box> and move.<stream> -> Order
BUNDLES = "tracker-bundles"  # object store: <stream>/<token> -> Bundle

ACK_WAIT_S = 5.0  # a box that is silent for so long loses its streams
PROGRESS_S = 1.0
BOX_TTL_S = 10.0
FRAMES_BLOCK = 2**26  # frame numbers of one owner: 25 days at 30 frames/s
EPOCHS_BLOCK = 2**16
OBJECTS_BLOCK = 10_000  # ids that an owner may have given and not stored: until the next one is live, it gives some
MAX_NUMBER = 2**52  # of frames and epochs, as streams.add takes them
MAX_MESSAGE_CHARS = 2000

Name = Annotated[str, Meta(pattern=STREAM_NAME)]
Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Amount = Annotated[int, Meta(ge=0, le=2**31 - 1)]
UnixSeconds = Annotated[float, Meta(ge=0, le=1e11)]
Message = Annotated[str, Meta(max_length=MAX_MESSAGE_CHARS)]
ShortText = Annotated[str, Meta(max_length=64)]


class Hold(Struct, frozen=True, kw_only=True):
    """By what the owner's fleet process goes on with the stream where it was restarted."""

    message: Annotated[str, Meta(pattern=r"^\$JS\.ACK\.[^\s*>]+\Z")]  # of the queue: where it is acknowledged
    settings: str  # that the daemon serves the stream with, in JSON


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who owns a stream: written by compare-and-set, so that of two who think so one is right."""

    owner: TokenText
    box: Name
    frames_end: Number  # all frames of this owner have lower numbers
    epochs_end: Number
    bundle: TokenText | None = None  # of the newest objects that are surely stored
    message: Message | None = None  # why the stream is not served
    hold: Hold | None = None  # None: the owner's daemon may not have all objects

    @property
    def token(self) -> Token:
        return Token.parse(self.owner)


class BoxRecord(Struct, frozen=True, kw_only=True):
    """What a box says of itself every two seconds, all of it: people read it too, and 0 streams is a fact."""

    box: Name
    time: UnixSeconds
    labels: Labels = {}
    streams: Amount = 0
    streams_room: Amount = 0
    objects: Amount = 0
    objects_room: Amount = 0
    version: ShortText = ""
    message: Message | None = None  # why it takes no streams, where it does not
    instance: ShortText = ""  # of the process: two with one name would write one record in turn


class Order(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What people want done: drain a box, or move a stream off its box."""

    kind: Literal["drain", "move"]
    time: UnixSeconds
    box: Name  # that is drained, or left
    to: Name | None = None  # the box that the stream is to go to; None: any other


def decoded(data: bytes | None, kind: Any) -> Any:
    """None for what is no such record."""
    try:
        return msgspec.json.decode(data or b"", type=kind)
    except (ValueError, RecursionError):
        return None


ANY = "any"  # key of no needs


def needs_key(needs: dict[str, Any]) -> str:
    """One token of a subject, the same for the same needs."""
    if not needs:
        return ANY
    return hashlib.sha256(msgspec.json.encode(needs, order="sorted")).hexdigest()[:16]


def satisfied(needs: dict[str, Any], labels: dict[str, Any]) -> bool:
    return all(key in labels and labels[key] == value for key, value in needs.items())


def queue_subject(stream: str, needs: dict[str, Any]) -> str:
    return f"{QUEUE_SUBJECT}.{needs_key(needs)}.{key_of(stream)}"


def bundle_name(stream: str, token: Token | str) -> str:
    return f"{stream}/{token}"
