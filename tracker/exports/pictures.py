"""Results as pictures: indexed PNGs, and a video with the objects drawn on it."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tracker.exports.results import FrameResult, ids_of
from tracker.images.overlay import Drawing, draw, palette
from tracker.masks.types import U8
from tracker.protocol.records import ObjectRecord

if TYPE_CHECKING:
    from tracker.images.video_writer import VideoWriter


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


class OverlayVideo:
    """An MP4 with the objects drawn on the frames, at the times of the frames and in the shape of their pixels."""

    def __init__(self, path: Path, fps: float, pixel_aspect: Fraction = Fraction(1)) -> None:
        self._path, self._fps, self._pixel_aspect = path, fps, pixel_aspect
        self._writer: VideoWriter | None = None

    def write(self, rgb_hwc: U8, result: FrameResult) -> None:
        """A frame, uint8 [h, w, 3], and what is on it."""
        if self._writer is None:
            from tracker.images.video_writer import VideoWriter  # PyAV, for those who write a video

            self._writer = VideoWriter(self._path, result.size_wh, self._fps, self._pixel_aspect)
        drawings = [drawing_of(record) for record in result.objects]
        self._writer.write(draw(rgb_hwc, drawings), result.pts)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def drawing_of(record: ObjectRecord) -> Drawing:
    """An object as `overlay.draw` takes it."""
    return Drawing(record.object, record.outline, record.box, record.label, record.score, record.state)
