"""The marks of one object on one frame, checked: what requests, prompts files and the command line become."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracker.masks.types import F32, Bool


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
