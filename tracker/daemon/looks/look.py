"""One look: an object's pixels on a frame, and the vector that is compared."""

from dataclasses import dataclass

import numpy as np

from tracker.images import imaging, looks
from tracker.images.types import Frame
from tracker.labels.crops import MARGIN
from tracker.masks.geometry import tight_mask
from tracker.masks.types import F32, U8, Bool, ObjectMask
from tracker.registry.similar import Look
from tracker.tracking.state import TrackedObject

APPEARANCE = "appearance"  # the tracking model's features and the colours inside the mask: always there
CLIP = "clip"  # CLIP's vector of a crop, where it is configured: comparable with texts

# Of the longer side of a mask's box, on each side of it: what a look takes in at most. That is CLIP's square with
# its margin around a box as thin as can be.
AROUND = 0.5 + MARGIN

Key = tuple[str, int]  # stream, object


@dataclass(frozen=True, slots=True, eq=False)
class LookTask:
    """An object as it was on one frame, with the features inside its mask."""

    key: Key
    label: str | None
    frame: Frame
    mask: ObjectMask
    pooled_c: F32
    obj: TrackedObject | None = None  # whom an alarm is about


@dataclass(frozen=True, slots=True, eq=False)
class SeenObject:
    """An object's pixels and mask in a part of the picture: as much around the object as anybody looks at.
    `left` and `top` are where that part lies, `box_xyxy` is the mask's box in the picture."""

    rgb_hwc: U8
    mask_hw: Bool
    left: int
    top: int
    box_xyxy: tuple[int, int, int, int]

    @property
    def box_inside_xyxy(self) -> tuple[int, int, int, int]:
        """The mask's box in the part."""
        x1, y1, x2, y2 = self.box_xyxy
        return x1 - self.left, y1 - self.top, x2 - self.left, y2 - self.top

    @property
    def crop_hwc(self) -> U8:
        x1, y1, x2, y2 = self.box_inside_xyxy
        return np.ascontiguousarray(self.rgb_hwc[y1:y2, x1:x2])

    @property
    def part_hw(self) -> Bool:
        x1, y1, x2, y2 = self.box_inside_xyxy
        return np.ascontiguousarray(self.mask_hw[y1:y2, x1:x2])


def seen(task: LookTask) -> SeenObject | None:
    """None where the mask is empty."""
    width, height = size_wh = task.frame.size_wh
    tight = tight_mask(task.mask.logits_hw, size_wh)
    if tight is None:
        return None
    h, w = tight.mask_hw.shape
    around = round(AROUND * max(h, w)) + 2
    # Even, as chroma has half of the picture's resolution.
    left, top = max(0, tight.x - around) // 2 * 2, max(0, tight.y - around) // 2 * 2
    right, bottom = min(width, tight.x + w + around), min(height, tight.y + h + around)
    part = imaging.part_of(task.frame.image, (left, top, right, bottom))
    mask_hw = np.zeros((bottom - top, right - left), np.bool_)
    mask_hw[tight.y - top :, tight.x - left :][:h, :w] = tight.mask_hw
    box_xyxy = tight.x, tight.y, tight.x + w, tight.y + h
    return SeenObject(imaging.to_rgb(part), mask_hw, left, top, box_xyxy)


def appearance_of(task: LookTask, pixels: SeenObject, model: str) -> Look:
    """Colours, thumbnail and vector of an object. Its slot is 0 until one is chosen."""
    colours_c = looks.colours(pixels.crop_hwc, pixels.part_hw)
    vector_c = looks.appearance(task.pooled_c, colours_c)
    stream, object_id = task.key
    return Look(
        kind=APPEARANCE,
        model=model,
        stream=stream,
        object=object_id,
        slot=0,
        frame=task.frame.index,
        time=task.frame.time,
        box=pixels.box_xyxy,
        label=task.label,
        thumbnail=looks.thumbnail(pixels.rgb_hwc, pixels.box_inside_xyxy),
        vector=vector_c.tobytes(),
    )
