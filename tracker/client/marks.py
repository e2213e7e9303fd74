"""A program's points, boxes and masks, numpy arrays included, as the protocol's fields. Raises BadPrompt."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tracker.errors import BadPrompt, BadRequest
from tracker.protocol.fields import Rle

if TYPE_CHECKING:  # numpy takes a fifth of a second to import: only when something is marked
    from numpy.typing import ArrayLike, NDArray

Box = tuple[float, float, float, float]


def wire_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call, with its points, labels, box and mask as the wire has them."""
    fields = dict(options)
    for name, convert in _CONVERSIONS.items():
        if fields.get(name) is not None:
            fields[name] = convert(fields[name])
    return fields


def wire_points(points: "ArrayLike") -> list[tuple[float, float]]:
    points_n2 = _numbers("points", points, "a list of (x, y)")
    if points_n2.size == 0:
        return []
    if points_n2.ndim != 2 or points_n2.shape[1] != 2:
        raise BadPrompt(f"points: {_shape(points_n2)} where a list of (x, y) is taken, shape (n, 2)")
    return [(x, y) for x, y in points_n2.tolist()]


def wire_labels(labels: "ArrayLike") -> list[int]:
    labels_n = _numbers("labels", labels, "one number for each point")
    if labels_n.ndim != 1:
        raise BadPrompt(f"labels: {_shape(labels_n)} where one number for each point is taken, shape (n,)")
    for i, label in enumerate(labels_n.tolist()):
        if label not in (0, 1):
            raise BadPrompt(f"labels[{i}]: {label:g} is neither 1 (on the object) nor 0 (off it)")
    return [int(label) for label in labels_n.tolist()]


def wire_box(box: "ArrayLike", name: str = "box") -> Box:
    box_xyxy = _numbers(name, box, "x1, y1, x2, y2")
    if box_xyxy.shape != (4,):
        raise BadPrompt(f"{name}: {_shape(box_xyxy)} where x1, y1, x2, y2 are taken, shape (4,)")
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2


def wire_mask(mask: "ArrayLike") -> Rle:
    """What is not 0 is the object."""
    from tracker.masks.rle import rle_encode

    mask_hw = _numbers("mask", mask, "an array [h, w]")
    if mask_hw.ndim != 2 or mask_hw.size == 0:
        raise BadPrompt(f"mask: {_shape(mask_hw)} where one value for each pixel is taken, shape (height, width)")
    height, width = mask_hw.shape
    return Rle((height, width), rle_encode(mask_hw != 0))


def wire_meta(meta: Any) -> Any:
    """Raises BadRequest for what has no place in MessagePack."""
    return msgspec.to_builtins(meta, builtin_types=(bytes,), enc_hook=plain)


def plain(value: Any) -> Any:
    """Numbers and lists of numpy's scalars and arrays. Raises BadRequest for anything else."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise BadRequest(f"a {type(value).__name__} cannot be sent: give text, numbers, bytes, lists or maps")


_CONVERSIONS = {
    "points": wire_points,
    "labels": wire_labels,
    "box": wire_box,
    "mask": wire_mask,
    "meta": wire_meta,
}


def _numbers(name: str, value: "ArrayLike", wanted: str) -> "NDArray[Any]":
    import numpy as np

    try:
        numbers = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # rows of different lengths; what lies on another device
        raise _not_numbers(name, value, wanted) from None
    if numbers.dtype.kind not in "biuf":  # text, objects, complex numbers
        raise _not_numbers(name, value, wanted)
    return numbers


def _not_numbers(name: str, value: object, wanted: str) -> BadPrompt:
    return BadPrompt(f"{name}: {_brief(value)} where {wanted} is taken, in numbers")


def _shape(array: "NDArray[Any]") -> str:
    return f"an array of shape {array.shape}"


def _brief(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
