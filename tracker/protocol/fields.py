"""Names, limits (each stated once) and field types that requests, replies and messages share."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tracker.config import PLAIN_TEXT, STREAM_NAME, Count

VERSION = 1
MAX_PARTS = 8  # of a request
MAX_BYTES = 2**20
MAX_ITEMS = 4096  # of one array or map
MAX_VALUES = 65536  # in all: a megabyte of empty maps would be a million of them
MAX_NESTING = 16
MAX_KEY_CHARS = 256
MAX_META_BYTES = 4096
PICTURE_WIDTHS = {"320": 320, "640": 640, "1280": 1280, "full": None}  # of topics frames/WIDTH: at most, in pixels
MAX_PIN_S = 120  # a frame that somebody looks at is kept so long, at most
MAX_CHUNK_BYTES = 2**19  # of an object's memory in one message
MAX_TRANSFERS = 4  # exports, and as many imports, under way at once; the oldest makes room
MAX_PICTURE_BYTES = 1_000_000  # of an uploaded picture file
MAX_PROMPT_POINTS = 256
MAX_OBJECT = 2**31 - 1

StreamId = Annotated[str, Meta(pattern=STREAM_NAME)]
ObjectId = Annotated[int, Meta(ge=1, le=MAX_OBJECT)]
FrameIndex = Annotated[int, Meta(ge=0, le=2**53)]
Label = Annotated[str, Meta(max_length=256, pattern=PLAIN_TEXT)]
Owner = Annotated[str, Meta(min_length=1, max_length=64, pattern=PLAIN_TEXT)]  # who placed the stream here
UnixTime = Annotated[float, Meta(ge=0, le=2**53)]  # seconds
SizeWh = tuple[int, int]
BoxXyxy = tuple[int, int, int, int]
Outline = list[list[list[int]]]
ImageFormat = Literal["jpeg", "png"]
StreamState = Literal["connecting", "live", "stalled", "paused", "ended", "failed"]
ObjectState = Literal["visible", "lost", "pending"]
EventName = Literal[
    "object_added",
    "object_refined",
    "object_caught_up",
    "object_lost",
    "object_found",
    "object_removed",
    "object_expired",
    "object_restored",
    "object_waiting",
    "object_failed",
    "stream_added",
    "stream_live",
    "stream_stalled",
    "stream_down",
    "stream_paused",
    "stream_ended",
    "stream_failed",
    "stream_resized",
    "stream_changed",
    "stream_removed",
    "object_described",
    "looks_like",
    "zone_entered",
    "zone_left",
    "line_crossed",
    "loitering",
    "segment_progress",
    "overload",
    "persist_failed",
    "persist_recovered",
    "daemon_stopping",
    "note",
]


class Rle(Struct, frozen=True, forbid_unknown_fields=True):
    """A mask as COCO's compressed run lengths; `size` is [h, w], unlike every other size here."""

    size: tuple[Count, Count]
    counts: bytes
