"""The records that pass between layers: frozen, no behaviour beyond what follows from their own fields."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

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

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.image.size_wh


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What marks an object on one frame, in pixels of the decoded source frame.

    `points_xy` is float32 [n, 2], `labels_n` int32 [n] (1 on the object, 0 off it), `box_xyxy` float32 [4],
    `mask_hw` bool at source size. A mask stands alone.
    """

    points_xy: F32 = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels_n: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    box_xyxy: F32 | None = None
    mask_hw: Bool | None = None
    replace: bool = False  # start this frame afresh instead of adding to its earlier points


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMask:
    """What the engine says of one object on one frame.

    `logits_hw` is float32 [h4, w4], the low-resolution mask logits (a quarter of the model's image size), holes
    already filled; above 0 is the object once it is resized to the source (bilinear, half-pixel centres).
    """

    logits_hw: F32
    score: float  # the model's own predicted IoU, 0 to 1
    presence: float  # object-score logit; above 0 the model sees the object


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A mask's geometry at source size. Empty mask: box None, area 0, outline empty.

    `outline` is a list of polygons, each a list of rings (outer border first, then holes), each a flat list of
    integer vertices [x0, y0, x1, y1, …] along pixel edges. `rle_counts` is COCO's compressed run-length string.
    """

    size_wh: tuple[int, int]
    box_xyxy: tuple[int, int, int, int] | None = None
    area: int = 0
    outline: list[list[list[int]]] = field(default_factory=list)
    rle_counts: bytes | None = None
