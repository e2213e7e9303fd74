"""What the daemon publishes, one frozen struct for each kind of topic."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from tracker.protocol.fields import (
    VERSION,
    EventName,
    ImageFormat,
    SizeWh,
)
from tracker.protocol.records import ObjectRecord, Record, StreamRecord, ZoneCounts


class Published(Record, frozen=True, kw_only=True):
    """Base of published messages: the publisher fills in these four."""

    v: int = VERSION
    instance: str = ""
    seq: int = 0
    published_mono_ns: int = 0


class Tracks(Published, frozen=True, kw_only=True):
    stream: str
    frame: int
    step: int
    epoch: int
    pts: float | None
    time: float
    camera_time: float | None
    mono_ns: int
    model_mono_ns: tuple[int, int] | None = None  # began, ended
    size: SizeWh
    pixel_aspect: tuple[int, int] | UnsetType = UNSET  # width and height of a pixel, where it is not square
    dropped: int
    objects: list[ObjectRecord]
    zones: dict[str, ZoneCounts] | UnsetType = UNSET  # only where the stream has zones
    owner: str | UnsetType = UNSET


class Event(Published, frozen=True, kw_only=True):
    """Something changed. Which of the UNSET fields an event carries, `docs/protocol.md` says."""

    event: EventName
    stream: str
    frame: int | None
    epoch: int
    time: float
    object: int | UnsetType = UNSET
    label: str | UnsetType | None = UNSET
    message: str | UnsetType = UNSET
    size: SizeWh | UnsetType = UNSET
    watch: int | UnsetType = UNSET
    score: float | UnsetType = UNSET
    zone: str | UnsetType = UNSET
    direction: Literal["to_left", "to_right"] | UnsetType = UNSET
    dwell_s: float | UnsetType = UNSET
    id: Any = UNSET
    done: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    owner: str | UnsetType = UNSET


class FrameMessage(Published, frozen=True, kw_only=True):
    """Goes with a third part: the image."""

    stream: str
    frame: int
    time: float
    size: SizeWh  # of the source frame
    pixel_aspect: tuple[int, int] | UnsetType = UNSET  # as in `tracks`
    format: ImageFormat
    owner: str | UnsetType = UNSET


class DeviceMemory(Record, frozen=True, kw_only=True):
    device: str
    used_bytes: int
    total_bytes: int


class StepTimes(Record, frozen=True, kw_only=True):
    """Milliseconds of the engine's steps since the last status; all 0 where there was none."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    cpu_ms: float = 0.0  # processor time of the daemon's main thread in all of them together


class Status(Published, frozen=True, kw_only=True):
    time: float
    streams: list[StreamRecord]
    memory: DeviceMemory
    steps: StepTimes
