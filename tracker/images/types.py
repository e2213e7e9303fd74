"""Pictures as they pass between layers: decoded planes, stills, and the frames of a stream."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from tracker.masks.types import U8

__all__ = ["I420", "U8", "Colour", "Frame", "Image", "Matrix", "Rgb"]

SQUARE = Fraction(1)

Matrix = Literal["bt601", "bt709", "bt2020"]


@dataclass(frozen=True, slots=True)
class Colour:
    """How luma and chroma encode a picture's colours."""

    matrix: Matrix = "bt601"
    full_range: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class I420:
    """A decoded picture in 4:2:0 planes, upright (rotation already applied), as it stays in the buffer.

    `y_hw` is uint8 [h, w]; `u_hw` and `v_hw` are uint8 [ceil(h / 2), ceil(w / 2)].
    """

    y_hw: U8
    u_hw: U8
    v_hw: U8
    colour: Colour = Colour()

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.y_hw.shape[1], self.y_hw.shape[0]

    @property
    def nbytes(self) -> int:
        return self.y_hw.nbytes + self.u_hw.nbytes + self.v_hw.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Rgb:
    """A still picture, uint8 [h, w, 3], exactly as PIL read it."""

    rgb_hwc: U8

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.rgb_hwc.shape[1], self.rgb_hwc.shape[0]

    @property
    def nbytes(self) -> int:
        return self.rgb_hwc.nbytes


Image = I420 | Rgb


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame of one stream, stamped when it was decoded."""

    stream: str
    index: int  # capture index: grows by one for every frame decoded, for the daemon's life
    epoch: int  # grows by one at every discontinuity
    pts: float | None  # media seconds
    time: float  # wall clock, Unix seconds
    mono_ns: int  # time.monotonic_ns()
    camera_time: float | None  # the camera's own clock (RTCP), Unix seconds
    image: Image
    corrupt: bool = False
    name: str | None = None  # file name without folder, for folders of images
    pixel_aspect: Fraction = SQUARE  # a pixel's width over its height as a player shows it

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.image.size_wh
