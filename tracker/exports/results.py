"""What is written, whatever the format: all objects on one frame, and how their masks are got."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tracker.errors import BadRequest
from tracker.masks.geometry import fill
from tracker.masks.rle import rle_decode, rle_encode
from tracker.masks.types import U8, Bool
from tracker.protocol.fields import Rle
from tracker.protocol.messages import Tracks
from tracker.protocol.records import ObjectRecord

MAX_PNG_OBJECT = 255  # an indexed PNG's pixel is one byte, and 0 is the background


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """All objects on one frame.

    `frame` counts the frames of a medium that the user has, from 0: the file's, or the recording's. `capture` is
    the daemon's own number of a live frame; `name` is the input picture's file name, where there was one.
    """

    frame: int
    size_wh: tuple[int, int]
    objects: Sequence[ObjectRecord]
    pts: float | None = None
    name: str | None = None
    capture: int | None = None

    @classmethod
    def of(cls, tracks: Tracks) -> "FrameResult":
        """From a published message, whose stream is the medium until somebody records it."""
        return cls(tracks.frame, tracks.size, tracks.objects, tracks.pts, capture=tracks.frame)

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
    """Object ids, uint8 [h, w], 0 for none; where objects overlap, the one with the higher score.

    Raises BadRequest for an id that a byte does not hold.
    """
    if large := [record.object for record in result.visible() if record.object > MAX_PNG_OBJECT]:
        raise BadRequest(f"object {large[0]}: in indexed PNGs ids go up to {MAX_PNG_OBJECT}: a pixel is one byte")
    ids_hw = np.zeros(result.size_wh[::-1], np.uint8)
    for record in sorted(result.visible(), key=lambda record: record.score or 0):
        ids_hw[mask_of_record(record, result.size_wh)] = record.object
    return ids_hw


def rle_of_record(record: ObjectRecord, size_wh: tuple[int, int]) -> dict[str, object]:
    """COCO's compressed RLE with the counts as text, for JSON."""
    exact = record.mask.counts if isinstance(record.mask, Rle) else rle_encode(mask_of_record(record, size_wh))
    return {"size": [size_wh[1], size_wh[0]], "counts": exact.decode("ascii")}
