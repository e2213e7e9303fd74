"""One look: an object's pixels on a frame, and the vector that is compared."""

from dataclasses import dataclass

import numpy as np

from tracker.images import imaging, looks
from tracker.images.types import Frame
from tracker.masks.geometry import mask_of
from tracker.masks.types import F32, U8, Bool, ObjectMask
from tracker.registry.similar import Look
from tracker.tracking.state import TrackedObject

APPEARANCE = "appearance"  # the tracking model's features and the colours inside the mask: always there
CLIP = "clip"  # CLIP's vector of a crop, where it is configured: comparable with texts

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
    """An object's pixels: the whole picture, the mask at its size, and the mask's box."""

    rgb_hwc: U8
    mask_hw: Bool
    box_xyxy: tuple[int, int, int, int]

    @property
    def inside(self) -> tuple[slice, slice]:
        x1, y1, x2, y2 = self.box_xyxy
        return slice(y1, y2), slice(x1, x2)

    @property
    def crop_hwc(self) -> U8:
        return np.ascontiguousarray(self.rgb_hwc[self.inside])

    @property
    def part_hw(self) -> Bool:
        return np.ascontiguousarray(self.mask_hw[self.inside])


def seen(task: LookTask) -> SeenObject | None:
    """None where the mask is empty."""
    mask_hw = mask_of(task.mask.logits_hw, task.frame.size_wh)
    rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
    if not len(rows):
        return None
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return SeenObject(imaging.to_rgb(task.frame.image), mask_hw, box)


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
        thumbnail=looks.thumbnail(pixels.rgb_hwc, pixels.box_xyxy),
        vector=vector_c.tobytes(),
    )
