"""What is kept of streams and objects, and the changes that are written together."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tracker.config import StreamConfig, ZoneConfig
from tracker.registry.similar import Look, WatchedLook
from tracker.tracking.zone import ZoneState


class SavedStream(Struct, frozen=True):
    """A stream that is there, or was: its numbers go on when it comes back."""

    name: str
    config: StreamConfig | None  # of one that was added at run time; None: it is in the configuration file
    next_frame: int  # no frame that was ever decoded has this number or a greater one
    epoch: int  # no frame was in a later one
    used_ids: list[tuple[int, int]]  # ranges, each up to and without its second number
    removed: bool = False
    paused: bool = False
    first_object: int = 1  # lower ids were given before the stream came here
    removed_at: float = 0.0  # Unix seconds, of one that was removed: the oldest are forgotten first


class SavedObject(Struct, frozen=True):
    """An object but for its memory."""

    stream: str
    id: int
    frame: int  # capture index of the last one that its memory has seen
    size_wh: tuple[int, int]  # of that frame
    label: str | None
    meta: dict[str, Any]
    expire_s: float | None
    age: int
    lost_for_s: float | None  # while the daemon looked for it; None: it is visible

    @property
    def key(self) -> tuple[str, int]:
        return self.stream, self.id


class KeptObject(Struct, frozen=True):
    """An object as it lies in the folder."""

    saved: SavedObject
    memory_file: str


class SavedZones(Struct, frozen=True):
    """A stream's zones, what the configuration said of them at that time, and what each has counted."""

    stream: str
    zones: dict[str, ZoneConfig]
    configured: dict[str, ZoneConfig]
    states: dict[str, ZoneState]


class Saved(Struct, frozen=True):
    """Everything that a daemon goes on with."""

    streams: list[SavedStream]
    objects: list[KeptObject]
    zones: list[SavedZones] = []


class PutStream(Struct, frozen=True):
    stream: SavedStream


class DropStream(Struct, frozen=True):
    """Its numbers, too, are forgotten."""

    name: str


class PutObject(Struct, frozen=True):
    """`memory` gives a safetensors file's bytes, called by the thread that writes; None: the memory stays."""

    object: SavedObject
    memory: Callable[[], bytes] | None
    only_if_there: bool = False  # what was removed meanwhile stays removed


class PutKept(Struct, frozen=True):
    """An object that waits: its memory's file lies in the folder already."""

    kept: KeptObject


class DropObject(Struct, frozen=True):
    stream: str
    id: int


class PutZones(Struct, frozen=True):
    zones: SavedZones

    @property
    def stream(self) -> str:
        return self.zones.stream


class DropZones(Struct, frozen=True):
    stream: str


class PutLook(Struct, frozen=True):
    """Takes the place of the look in its slot."""

    look: Look


class PutWatchedLook(Struct, frozen=True):
    watched: WatchedLook


class DropWatchedLook(Struct, frozen=True):
    id: int


class KeepWatchedLooks(Struct, frozen=True):
    """Forget all others up to a number."""

    ids: list[int]
    last_id: int


class Clear(Struct, frozen=True):
    """Forget all streams, objects and zones: what follows is everything."""


LookChange = PutLook | PutWatchedLook | DropWatchedLook | KeepWatchedLooks
Change = PutStream | DropStream | PutObject | PutKept | DropObject | PutZones | DropZones | LookChange | Clear
