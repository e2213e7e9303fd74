"""Masks as they pass between layers: what the engine says of an object, and its shape at source size."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMask:
    """What the engine says of one object on one frame.

    `logits_hw` is float32 [h4, w4], the low-resolution mask logits (a quarter of the model's image size), holes
    already filled; or twice as fine, where edges are the picture's (`engine/edges.py`). Above 0 is the object once
    it is resized to the source (bilinear, half-pixel centres).
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
