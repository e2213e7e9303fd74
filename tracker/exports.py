"""Tracking results in the formats that others read: JSON lines, DAVIS PNG, COCO, MOT Challenge, CVAT, supervision.

Every writer takes one `FrameResult` after the other and is closed at the end, also after Ctrl-C.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from PIL import Image

from tracker.geometry import fill
from tracker.overlay import Drawing, draw, palette
from tracker.protocol import ObjectRecord, Rle, Tracks
from tracker.rle import rle_decode
from tracker.types import U8, Bool
from tracker.video import VideoWriter

MAX_PNG_OBJECT = 255  # an indexed PNG's pixel is one byte, and 0 is the background


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """All objects on one frame. `name` is the input picture's file name, where there was one."""

    frame: int
    size_wh: tuple[int, int]
    objects: Sequence[ObjectRecord]
    pts: float | None = None
    name: str | None = None

    @classmethod
    def of(cls, tracks: Tracks) -> "FrameResult":
        """From a published message."""
        return cls(tracks.frame, tracks.size, tracks.objects, tracks.pts)

    @property
    def stem(self) -> str:
        return stem_of(self.name, self.frame)

    def visible(self) -> Iterator[ObjectRecord]:
        return (record for record in self.objects if record.state == "visible")


def stem_of(name: str | None, frame: int) -> str:
    """What a file about a frame is called: as the input's, or its number."""
    return Path(name).stem if name else f"{frame:05d}"


class Writer(Protocol):
    def write(self, result: FrameResult) -> None: ...

    def close(self) -> None: ...


def mask_of_record(record: ObjectRecord, size_wh: tuple[int, int]) -> Bool:
    """Bool [h, w]: exactly, where the record carries its mask; else what its outline says."""
    if isinstance(record.mask, Rle):
        return rle_decode(record.mask.counts, record.mask.size)
    return fill(record.outline, size_wh)


def ids_of(result: FrameResult) -> U8:
    """Object ids, uint8 [h, w], 0 for none; where objects overlap, the one with the higher score."""
    ids_hw = np.zeros(result.size_wh[::-1], np.uint8)
    for record in sorted(result.visible(), key=lambda record: record.score or 0):
        ids_hw[mask_of_record(record, result.size_wh)] = record.object
    return ids_hw


class DavisPng:
    """One indexed PNG a frame at source size, pixel = object id: what the DAVIS and SA-V evaluators read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, result: FrameResult) -> None:
        self.write_ids(result.stem, ids_of(result))

    def write_ids(self, stem: str, ids_hw: U8) -> None:
        picture = Image.fromarray(ids_hw, "P")
        picture.putpalette(palette())
        picture.save(self._folder / f"{stem}.png")

    def close(self) -> None:
        """Every file is complete already."""


class JsonLines:
    """One line a frame, the records of the protocol; masks as COCO RLE whose counts are text."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, result: FrameResult) -> None:
        line = {
            "frame": result.frame,
            "name": result.name,
            "pts": result.pts,
            "size": result.size_wh,
            "objects": [_json_record(record) for record in result.objects],
        }
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


def _json_record(record: ObjectRecord) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(bytes,))
    if isinstance(record.mask, Rle):
        fields["mask"] = _json_rle(record.mask)
    return fields


def _json_rle(rle: Rle) -> dict[str, Any]:
    return {"size": list(rle.size), "counts": rle.counts.decode("ascii")}


def read_json_lines(path: Path) -> Iterator[FrameResult]:
    """What `JsonLines` wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            fields = json.loads(line)
            for record in fields["objects"]:
                if "mask" in record:
                    record["mask"]["counts"] = record["mask"]["counts"].encode("ascii")
            records = msgspec.convert(fields["objects"], list[ObjectRecord])
            yield FrameResult(fields["frame"], tuple(fields["size"]), records, fields["pts"], fields["name"])


class OverlayVideo:
    """An MP4 with the objects drawn on the frames, at the times of the frames."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: VideoWriter | None = None
        self._begin_s: float | None = None

    def write(self, rgb_hwc: U8, result: FrameResult) -> None:
        """A frame, uint8 [h, w, 3], and what is on it."""
        if self._writer is None:
            self._writer = VideoWriter(self._path, result.size_wh, self._fps)
            self._begin_s = result.pts
        time_s = None if result.pts is None or self._begin_s is None else result.pts - self._begin_s
        self._writer.write(draw(rgb_hwc, [_drawing(record) for record in result.objects]), time_s)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _drawing(record: ObjectRecord) -> Drawing:
    return Drawing(record.object, record.outline, record.box, record.label, record.score, record.state)
