"""Where streams are, as the boxes of a fleet say it in NATS: names of buckets and subjects, keys, records."""

import re
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from tracker.errors import BadRequest
from tracker.protocol.fields import StreamId, StreamState
from tracker.protocol.records import Record

WHERE = "tracker-where"  # stream -> Where; an entry that its owner does not renew ends after WHERE_TTL_S
WHERE_TTL_S = 15.0
SAVE = "tracker-fleet.save"  # SAVE.<stream>: a request to the stream's owner, answered once its objects are stored


MIRROR = "tracker"  # MIRROR.<stream>.tracks, .events and .status, where boxes mirror them


TOKEN = r"^[0-9]{1,15}\.[0-9]{1,15}\Z"


class Token(NamedTuple):
    """Which ownership of a stream: those of the same stream are in order, and the greatest is the valid one."""

    sequence: int  # of the wanted stream's message in JetStream
    delivery: int  # how often that was handed out

    def __str__(self) -> str:
        return f"{self.sequence}.{self.delivery}"

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Raises BadRequest for what is no token."""
        if not re.match(TOKEN, text):
            raise BadRequest(f"owner: {text!r} is no token of a fleet, like 12.3")
        sequence, _, delivery = text.partition(".")
        return cls(int(sequence), int(delivery))


TokenText = Annotated[str, Meta(pattern=TOKEN)]


ENDPOINT = r"(tcp|ipc)://[^\x00-\x1f\x7f]{1,300}"
Endpoint = Annotated[str, Meta(pattern=rf"^{ENDPOINT}\Z")]
EndpointOrNone = Annotated[str, Meta(pattern=rf"^({ENDPOINT})?\Z")]  # "": it is not known


class Where(Record, frozen=True, kw_only=True):
    """Where a stream is served."""

    stream: StreamId
    box: StreamId
    owner: TokenText  # stands in all messages of the stream
    control: Endpoint  # of the daemon, as others reach it
    publish: EndpointOrNone
    key: Annotated[str, Meta(min_length=40, max_length=40)] | None = None  # of the daemon, public; nil: none
    state: StreamState = "connecting"  # of the stream, as last seen

    @property
    def token(self) -> Token:
        return Token.parse(self.owner)


def key_of(name: str) -> str:
    """A stream's or box's name as one token of a subject or key: a dot would part it, and no name holds a `=`."""
    return name.replace(".", "=")


def name_of(key: str) -> str:
    return key.replace("=", ".")


def where_of(data: bytes) -> Where | None:
    """None for what is no such record: others may write into the same NATS."""
    try:
        return msgspec.json.decode(data, type=Where)
    except (ValueError, RecursionError):
        return None
