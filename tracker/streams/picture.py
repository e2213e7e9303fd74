"""What sources give, and how a decoded video frame becomes one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from tracker.errors import SourceError
from tracker.types import I420, U8, Colour, Image, Matrix


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

    `fps` is the nominal rate and `length` the number of frames, both None where the source does not tell.
    `size_wh` is the first picture's size. `lost` counts packets that gave no picture. `notice` is one line for the
    log, if there is something to say about how the source was opened.
    """

    live: bool
    fps: float | None
    length: int | None
    size_wh: tuple[int, int]
    lost: int
    notice: str | None

    def __iter__(self) -> Iterator[Picture]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def close(self) -> None: ...


_MATRICES: dict[int, Matrix] = {1: "bt709", 7: "bt709", 9: "bt2020", 10: "bt2020"}  # AVColorSpace; others: BT.601
_SWS = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}


class Converter:
    """Decoded frames to upright 8-bit 4:2:0 planes of their own memory, colour matrix and range kept.

    `size_wh` is the wanted size of the upright picture; None keeps the source's.
    """

    def __init__(self, size_wh: tuple[int, int] | None = None) -> None:
        self._size_wh = size_wh
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame) -> I420:
        quarter_turns = round(frame.rotation / 90) % 4
        colour = colour_of(frame)
        frame = self._planar(frame, colour, turned=quarter_turns % 2 == 1)
        w, h = frame.width, frame.height
        planes = [
            _plane(frame.planes[0], w, h),
            _plane(frame.planes[1], (w + 1) // 2, (h + 1) // 2),
            _plane(frame.planes[2], (w + 1) // 2, (h + 1) // 2),
        ]
        y_hw, u_hw, v_hw = (np.ascontiguousarray(np.rot90(plane, quarter_turns)) for plane in planes)
        return I420(y_hw, u_hw, v_hw, colour)

    def _planar(self, frame: av.VideoFrame, colour: Colour, turned: bool) -> av.VideoFrame:
        """yuv420p at the wanted size. The same range on both sides: swscale then leaves the levels alone."""
        w, h = self._size_wh or (frame.width, frame.height)
        if turned and self._size_wh:
            w, h = h, w
        if (w, h) == (frame.width, frame.height) and frame.format.name in ("yuv420p", "yuvj420p"):
            return frame
        range_ = ColorRange.JPEG if colour.full_range or _is_grey(frame) else ColorRange.MPEG
        return self._reformatter.reformat(
            frame,
            width=w,
            height=h,
            format="yuv420p",
            src_colorspace=None if frame.format.is_rgb else _SWS[colour.matrix],
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
    if frame.format.is_rgb:
        return Colour("bt601", True)
    if _is_grey(frame) and int(frame.color_range) != ColorRange.MPEG:
        return Colour("bt601", True)
    return Colour(_MATRICES.get(int(frame.colorspace), "bt601"), full_range)


def _is_grey(frame: av.VideoFrame) -> bool:
    return len(frame.format.components) == 1


def _plane(plane: av.video.plane.VideoPlane, w: int, h: int) -> U8:
    """A copy: the decoder will use its memory again."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[:h, :w].copy()
