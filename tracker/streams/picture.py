"""What sources give, and how a decoded video frame becomes one."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from tracker.errors import SourceError
from tracker.images.limits import enlarged_too_far
from tracker.images.types import I420, U8, Colour, Image, Matrix
from tracker.streams.orientation import Orientation, orientation_of


class Misconfigured(SourceError):
    """What trying again cannot heal: a missing password variable, an unknown protocol, an empty folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of a source; the stream gives it its number and its time."""

    image: Image
    pts: float | None  # media seconds
    camera_time: float | None = None  # the camera's own clock, Unix seconds
    corrupt: bool = False
    name: str | None = None  # file name without folder, for folders of images


class Source(Protocol):
    """An open source. Iterate it once; close it in every path.

    Iterating gives its pictures. None stands for a picture that `fps` leaves out: the source lives, and there is
    nothing to show.
    `fps` is the nominal rate, None where the source does not tell.
    `estimate` is the number of frames by a header, which may be wrong.
    `most_frames` reads a file to its end and decodes nothing: fewer come where it is damaged. Nothing is left then.
    `size_wh` is the first picture's size.
    `pixel_aspect` is a pixel's width over its height as a player shows it; the picture itself stays as decoded.
    `lost` counts packets that gave no picture.
    `notice` is one line for the log, if there is something to say about how the source was opened.
    """

    live: bool
    fps: float | None
    estimate: int | None
    size_wh: tuple[int, int]
    pixel_aspect: Fraction
    lost: int
    notice: str | None

    def __iter__(self) -> Iterator[Picture | None]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def most_frames(self) -> int: ...

    def close(self) -> None: ...


_MATRICES: dict[int, Matrix] = {1: "bt709", 7: "bt709", 9: "bt2020", 10: "bt2020"}  # AVColorSpace; others: BT.601
_SWS = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}


class Converter:
    """Decoded frames to upright 8-bit 4:2:0 planes of their own memory, colour matrix and range kept.

    `size_wh` is the wanted size of the upright picture; None keeps the source's.
    """

    def __init__(self, size_wh: tuple[int, int] | None = None) -> None:
        self._size_wh = size_wh
        self.transposes = False  # whether the last picture was laid on its side
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame) -> I420:
        orientation = orientation_of(frame)
        self.transposes = orientation.transposed
        colour = colour_of(frame)
        planar = self._planar(frame, colour, orientation)
        w, h = planar.width, planar.height
        half_w, half_h = (w + 1) // 2, (h + 1) // 2
        sizes_wh = [(w, h), (half_w, half_h), (half_w, half_h)]
        y_hw, u_hw, v_hw = (
            orientation.apply(_plane(plane, *size_wh))
            for plane, size_wh in zip(planar.planes, sizes_wh, strict=True)
        )
        return I420(y_hw, u_hw, v_hw, colour)

    def _planar(self, frame: av.VideoFrame, colour: Colour, orientation: Orientation) -> av.VideoFrame:
        """yuv420p at the wanted size. The same range on both sides: swscale then leaves the levels alone."""
        source_wh = (frame.width, frame.height)
        w, h = self._size_wh or source_wh
        if problem := enlarged_too_far((w, h), source_wh):
            raise Misconfigured(problem)
        if orientation.transposed and self._size_wh:
            w, h = h, w
        if (w, h) == source_wh and frame.format.name in ("yuv420p", "yuvj420p"):
            return frame
        range_ = ColorRange.JPEG if colour.full_range or _is_grey(frame) else ColorRange.MPEG
        return self._reformatter.reformat(
            frame,
            width=w,
            height=h,
            format="yuv420p",
            src_colorspace=None if _is_rgb(frame) else _SWS[colour.matrix],
            dst_colorspace=_SWS[colour.matrix],
            src_color_range=range_,
            dst_color_range=range_,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=1,
        )


def colour_of(frame: av.VideoFrame) -> Colour:
    """A frame's matrix and range. Untagged video is BT.601 limited, as for FFmpeg's own converter; RGB and untagged
    grey become full range, so that nothing is lost."""
    full_range = int(frame.color_range) == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    if _is_rgb(frame):
        return Colour("bt601", True)
    if _is_grey(frame) and int(frame.color_range) != ColorRange.MPEG:
        return Colour("bt601", True)
    return Colour(_MATRICES.get(int(frame.colorspace), "bt601"), full_range)


def _is_rgb(frame: av.VideoFrame) -> bool:
    """Whether the pixels are red, green and blue, or numbers of such colours in a palette."""
    return frame.format.is_rgb or frame.format.has_palette


def _is_grey(frame: av.VideoFrame) -> bool:
    return len(frame.format.components) == 1 and not frame.format.has_palette


def _plane(plane: av.video.plane.VideoPlane, w: int, h: int) -> U8:
    """A copy: the decoder will use its memory again."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[:h, :w].copy()
