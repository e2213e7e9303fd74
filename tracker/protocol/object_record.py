"""The one place that makes an object's record: live, of files and of pictures."""

from typing import Any, TypedDict, Unpack

from msgspec import UNSET, UnsetType

from tracker.masks.types import Shape
from tracker.protocol.fields import Rle
from tracker.protocol.records import Description, Guess, ObjectRecord


class RecordFields(TypedDict, total=False):
    """The fields of a record beside the mask."""

    age: int
    label: str | None
    meta: dict[str, Any]
    guess: Guess | UnsetType
    description: Description | UnsetType


def object_record(
    object_id: int, shape: Shape, score: float, presence: float | None = None, **more: Unpack[RecordFields]
) -> ObjectRecord:
    """The record of an object whose mask has the geometry `shape`."""
    width, height = shape.size_wh
    return ObjectRecord(
        object=object_id,
        state="visible" if shape.area else "lost",
        score=round(score, 4),
        presence=None if presence is None else round(presence, 3),
        box=shape.box_xyxy,
        area=shape.area,
        outline=shape.outline,
        mask=Rle((height, width), shape.rle_counts) if shape.rle_counts is not None else UNSET,
        **more,
    )
