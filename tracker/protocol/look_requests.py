"""What is searched for and waited for by its look: what these operations take."""

from typing import Annotated

from msgspec import Meta

from tracker.config import (
    PLAIN_TEXT,
    Unit,
)
from tracker.protocol.fields import (
    MAX_PICTURE_BYTES,
    FrameIndex,
    Label,
    ObjectId,
    StreamId,
    UnixTime,
)
from tracker.protocol.requests import Args, Prompted


class LookMarks(Prompted, frozen=True, kw_only=True):
    """A look: an object's (`stream` and `object`), or that of what is marked on a frame or on a picture file."""

    stream: StreamId | None = None
    object: ObjectId | None = None
    frame: FrameIndex | None = None
    picture: Annotated[bytes, Meta(max_length=MAX_PICTURE_BYTES)] | None = None

    def __post_init__(self) -> None:
        marked = any(mark is not None for mark in (self.points, self.box, self.mask))
        if (self.picture is None) == (self.stream is None):
            raise ValueError("give either stream, with an object or marks, or picture, with marks")
        if (self.object is None) != marked:
            raise ValueError("give either object or marks (points, box or mask), so that it is clear what is meant")
        if self.object is not None and (self.picture is not None or self.frame is not None):
            raise ValueError("object: its looks are kept already; leave frame and picture out")
        if self.picture is not None and self.frame is not None:
            raise ValueError("frame: a picture has none")


class SearchSimilar(LookMarks, frozen=True, kw_only=True):
    text: Annotated[str, Meta(min_length=1, max_length=256, pattern=PLAIN_TEXT)] | None = None  # instead of a look
    on: StreamId | None = None  # only what was seen there
    since: UnixTime | None = None
    until: UnixTime | None = None
    label: Label | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError("since: it is later than until")
        if self.text is None:
            super().__post_init__()
            return
        others = (self.stream, self.object, self.frame, self.picture, self.points, self.labels, self.box, self.mask)
        if any(other is not None for other in others):
            raise ValueError("text: it is what is looked for; leave stream, object, frame, picture and marks out")


class WatchAdd(LookMarks, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=PLAIN_TEXT)]
    threshold: Unit = 0.9


class WatchListArgs(Args, frozen=True, kw_only=True):
    pass


class WatchRemove(Args, frozen=True, kw_only=True):
    watch: Annotated[int, Meta(ge=1)]
