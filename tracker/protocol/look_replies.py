"""What searches and the watch list answer."""

from tracker.protocol.fields import BoxXyxy
from tracker.protocol.records import Record


class SimilarHit(Record, frozen=True, kw_only=True):
    """How an object looked at some time, and how much that is like what was asked for."""

    stream: str
    object: int
    frame: int
    time: float
    box: BoxXyxy
    label: str | None
    score: float
    thumbnail: bytes  # JPEG
    kind: str


class SimilarFound(Record, frozen=True, kw_only=True):
    hits: list[SimilarHit]
    left_out: int  # looks of other models, which cannot be compared


class WatchRecord(Record, frozen=True, kw_only=True):
    """A look that is waited for."""

    watch: int
    name: str
    threshold: float
    time: float
    thumbnail: bytes
    durable: bool


class WatchList(Record, frozen=True, kw_only=True):
    watched: list[WatchRecord]
