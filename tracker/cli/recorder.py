"""A live stream into files. Frames are numbered as they are written, so that numbers refer to the medium at hand;
the daemon's own number of a frame, its capture index, is kept beside."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import click
from msgspec import UNSET, structs

from tracker.cli import show
from tracker.client.messages import Message
from tracker.config.wording import counted
from tracker.exports import WRITERS, FrameResult, OverlayVideo
from tracker.images import imaging
from tracker.images.types import SQUARE, U8
from tracker.images.video_writer import VideoWriter
from tracker.protocol.messages import FrameMessage, Tracks
from tracker.protocol.records import ObjectRecord

KEPT = 64  # frames that wait for their picture
JPEG_QUALITY = 95
FIRST_FRAME = {"mot": 1}  # the formats that have no place for a capture index count from 0, but for MOT
INDEXED = ("cvat", "davis", "mot")


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One frame of a recording, and its picture where one is wanted."""

    tracks: Tracks
    result: FrameResult
    jpeg: bytes = b""

    @cached_property
    def rgb_hwc(self) -> U8:
        """The picture as it came, uint8 [h, w, 3]."""
        return imaging.decode(self.jpeg)

    @property
    def pixel_aspect(self) -> Fraction:
        told = self.tracks.pixel_aspect
        return SQUARE if told is UNSET else Fraction(*told)

    @property
    def time_s(self) -> float:
        """By the daemon's clock that never leaps."""
        return self.tracks.mono_ns / 1e9


class Output(Protocol):
    """One file, or one folder."""

    def write(self, frame: RecordedFrame) -> None: ...

    def close(self) -> None: ...


class Recorder:
    """Messages to all outputs. One that fails is closed, and the others go on.

    With `pictures` a frame is recorded when its picture has come too, so that all outputs have the same frames.
    With `one_size` all are at the size of the first.
    """

    def __init__(self, *, pictures: bool = False, one_size: bool = False) -> None:
        self.outputs: dict[Path, Output] = {}
        self.frames = 0
        self.missed = 0  # frames that were tracked and did not come here
        self.resized = 0  # frames that were not of the first one's size
        self.failed: dict[Path, str] = {}  # and why
        self.seen: set[int] = set()  # objects
        self.lost: list[int] = []  # objects that are lost on the last frame
        self._pictures = pictures
        self._one_size = one_size
        self._size_wh: tuple[int, int] | None = None
        self._waiting: dict[tuple[str, int], Tracks] = {}  # by instance and capture index

    def take(self, message: Message) -> None:
        """Raises ClickException where no output is left."""
        if message.lost:
            show.say(f"{message.topic}: {counted(message.lost, 'message')} lost")
        body = message.body
        if isinstance(body, Tracks):
            self.missed += message.lost
            self._take_tracks(body)
        elif isinstance(body, FrameMessage) and message.image is not None:
            tracks = self._waiting.pop((body.instance, body.frame), None)
            if tracks is not None:
                self._record(tracks, message.image)
        if not self.outputs:
            raise click.ClickException(f"nothing is left to write to: {self.failures_text()}")

    def failures_text(self) -> str:
        return ", ".join(f"{path} ({why})" for path, why in self.failed.items())

    def close(self) -> None:
        for path, output in list(self.outputs.items()):
            with self._guarded(path):
                output.close()

    def _take_tracks(self, tracks: Tracks) -> None:
        if not self._pictures:
            self._record(tracks, b"")
            return
        self._waiting[tracks.instance, tracks.frame] = tracks
        if len(self._waiting) > KEPT:
            del self._waiting[next(iter(self._waiting))]
            self.missed += 1

    def _record(self, tracks: Tracks, jpeg: bytes) -> None:
        result = replace(FrameResult.of(tracks), frame=self.frames, capture=tracks.frame)
        if self._one_size:
            self._size_wh = self._size_wh or tracks.size
            self.resized += tracks.size != self._size_wh
            result = scaled(result, self._size_wh)
        recorded = RecordedFrame(tracks, result, jpeg)
        self.frames += 1
        self.seen.update(record.object for record in tracks.objects)
        self.lost = [record.object for record in tracks.objects if record.state == "lost"]
        for path, output in list(self.outputs.items()):
            with self._guarded(path):
                output.write(recorded)

    @contextlib.contextmanager
    def _guarded(self, path: Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001
            # A full disk, an id that a format cannot hold: whatever it is, the other files must not suffer from it.
            why = error.strerror if isinstance(error, OSError) else error
            show.say(f"{path}: ends here: {why}")
            self.failed[path] = str(why)
            with contextlib.suppress(Exception):
                self.outputs.pop(path).close()


class Exported:
    """Results in one of the formats; where that has no place for capture indices, a table of them beside it."""

    def __init__(self, name: str, path: Path) -> None:
        self._writer = WRITERS[name](path)
        self._index = FrameIndex(index_path(path), FIRST_FRAME.get(name, 0)) if name in INDEXED else None

    def write(self, frame: RecordedFrame) -> None:
        self._writer.write(frame.result)
        if self._index is not None:
            self._index.write(frame)

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
        self._writer.close()


class FrameIndex:
    """CSV: the number of each frame in the recording, its capture index, and Unix seconds."""

    def __init__(self, path: Path, first: int) -> None:
        self._first = first
        self._file = path.open("w", encoding="utf-8", newline="", buffering=1)  # whole lines, whatever happens
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(("frame", "capture", "time"))

    def write(self, frame: RecordedFrame) -> None:
        self._rows.writerow((self._first + frame.result.frame, frame.tracks.frame, f"{frame.tracks.time:.3f}"))

    def close(self) -> None:
        self._file.close()


def index_path(path: Path) -> Path:
    """What the table of capture indices beside an export is called."""
    return path.with_name(f"{path.name}.frames.csv")


class Overlaid:
    """A video of the pictures with what is tracked on them, at the times of their frames."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._video: OverlayVideo | None = None
        self._size_wh: tuple[int, int] | None = None

    def write(self, frame: RecordedFrame) -> None:
        self._video = self._video or OverlayVideo(self._path, self._fps, frame.pixel_aspect)
        height, width, _ = frame.rgb_hwc.shape
        self._size_wh = self._size_wh or (width, height)  # a video has one size for good
        result = replace(scaled(frame.result, self._size_wh), pts=frame.time_s)
        self._video.write(imaging.resize_rgb(frame.rgb_hwc, self._size_wh), result)

    def close(self) -> None:
        if self._video is not None:
            self._video.close()


class PlainVideo:
    """A video of the pictures themselves: the medium that the exports' numbers refer to."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: VideoWriter | None = None
        self._begin_s = 0.0

    def write(self, frame: RecordedFrame) -> None:
        size_wh = frame.result.size_wh
        if self._writer is None:
            self._writer = VideoWriter(self._path, size_wh, self._fps, frame.pixel_aspect)
            self._begin_s = frame.time_s
        self._writer.write(imaging.resize_rgb(frame.rgb_hwc, size_wh), frame.time_s - self._begin_s)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class PlainFrames:
    """The pictures themselves as a folder of JPEGs, as they came."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, frame: RecordedFrame) -> None:
        jpeg = frame.jpeg
        if frame.tracks.size != frame.result.size_wh:
            rgb_hwc = imaging.resize_rgb(frame.rgb_hwc, frame.result.size_wh)
            jpeg = imaging.encode_jpeg(rgb_hwc, JPEG_QUALITY)
        (self._folder / f"{frame.result.stem}.jpg").write_bytes(jpeg)

    def close(self) -> None:
        """Every file is complete already."""


def scaled(result: FrameResult, to_wh: tuple[int, int]) -> FrameResult:
    """The objects on a picture of another size; their masks are what their outlines say then."""
    if result.size_wh == to_wh:
        return result
    x, y = to_wh[0] / result.size_wh[0], to_wh[1] / result.size_wh[1]
    return replace(result, size_wh=to_wh, objects=[_scaled(record, x, y) for record in result.objects])


def _scaled(record: ObjectRecord, x: float, y: float) -> ObjectRecord:
    def moved(flat: Sequence[int]) -> list[int]:
        return [round(value * (y if i % 2 else x)) for i, value in enumerate(flat)]

    box = None if record.box is None else tuple(moved(record.box))
    outline = [[moved(ring) for ring in polygon] for polygon in record.outline]
    area = round(record.area * x * y)
    return structs.replace(record, box=box, outline=outline, area=area, mask=UNSET)
