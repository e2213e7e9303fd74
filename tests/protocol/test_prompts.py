"""Prompt fields against a frame of 64 × 48 pixels: what becomes a prompt and what is refused, and why."""

from typing import Any

import numpy as np
import pytest

from tracker.errors import BadPrompt
from tracker.masks.rle import rle_encode
from tracker.protocol.fields import Rle
from tracker.protocol.object_requests import ObjectsAdd, ObjectsRefine
from tracker.protocol.prompts import box_of, checked, prompt_of

SIZE_WH = (64, 48)


def add(**fields: Any) -> ObjectsAdd:
    return ObjectsAdd(stream="cam1", **fields)


def square_mask() -> np.ndarray:
    mask_hw = np.zeros((48, 64), bool)
    mask_hw[10:20, 30:50] = True
    return mask_hw


def test_points_and_a_box() -> None:
    prompt = prompt_of(add(points=[(0, 0), (63.9, 47.5)], labels=[1, 0], box=(0, 0, 64, 48)), SIZE_WH)
    assert prompt.points_xy.tolist() == [[0, 0], [np.float32(63.9), 47.5]]
    assert prompt.points_xy.dtype == np.float32
    assert prompt.labels_n.dtype == np.int32
    assert prompt.labels_n.tolist() == [1, 0]
    assert prompt.box_xyxy is not None
    assert prompt.box_xyxy.tolist() == [0, 0, 64, 48]
    assert prompt.mask_hw is None


def test_points_without_labels_are_all_on_the_object() -> None:
    assert prompt_of(add(points=[(1, 1), (2, 2)]), SIZE_WH).labels_n.tolist() == [1, 1]


def test_a_box_alone_has_no_points() -> None:
    prompt = prompt_of(add(points=[], box=(1.5, 2, 9, 9)), SIZE_WH)
    assert prompt.points_xy.shape == (0, 2)
    assert prompt.labels_n.shape == (0,)


def test_a_mask_alone() -> None:
    prompt = prompt_of(add(mask=Rle((48, 64), rle_encode(square_mask()))), SIZE_WH)
    assert prompt.mask_hw is not None
    assert np.array_equal(prompt.mask_hw, square_mask())
    assert prompt.box_xyxy is None


@pytest.mark.parametrize("replace", [True, False])
def test_a_refinement_says_whether_it_replaces(replace: bool) -> None:
    args = ObjectsRefine(stream="cam1", object=1, points=[(1, 1)], replace=replace)
    assert prompt_of(args, SIZE_WH).replace is replace


MASK = Rle((48, 64), rle_encode(square_mask()))
NOTHING = Rle((48, 64), rle_encode(np.zeros((48, 64), bool)))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "empty prompt: give points, box or mask"),
        ({"points": []}, "empty prompt"),
        ({"labels": [1]}, "empty prompt"),
        ({"points": [(1, 1)], "labels": []}, "labels: 0 for 1 points; give one for each"),
        ({"box": (1, 1, 9, 9), "labels": [1]}, "labels: 1 for 0 points"),
        ({"points": [(1, 1)], "labels": [2]}, r"labels\[0\]: 2 is neither 1"),
        ({"points": [(1, 1)], "labels": [2**70]}, r"labels\[0\]: 1180591620717411303424 is neither 1"),
        ({"points": [(1, 1), (64.1, 1)]}, r"points\[1\]: \(64.1, 1\) is outside the frame of 64 × 48"),
        ({"points": [(1, -0.1)]}, r"points\[0\]: \(1, -0.1\) is outside"),
        ({"points": [(1e300, 1)]}, r"points\[0\]: \(1e\+300, 1\) is outside"),
        ({"points": [(float("nan"), 1)]}, r"points\[0\]: \(nan, 1\) is outside"),
        ({"points": [(1, 1)] * 257}, "points: 257 of them; at most 256"),
        ({"points": [(1, 1), (2, 2)], "labels": [0, 0]}, "labels: all points are off the object"),
        ({"box": (64, 1, 70, 9)}, r"box: \[64, 1, 70, 9\] is outside the frame of 64 × 48"),
        ({"box": (-9, 1, -1, 9)}, "box: .* is outside the frame"),
        ({"box": (63.5, 1, 70, 9)}, "box: .* covers less than 1 × 1 pixel of the frame"),
        ({"box": (1, 1, 1.5, 9)}, "box: .* covers less than 1 × 1 pixel"),
        ({"box": (float("nan"), 1, 9, 9)}, "box: .* is not .* with x1 < x2"),
        ({"box": (0, 0, float("inf"), 9)}, "box: .* is not .* with x1 < x2"),
        ({"box": (9, 1, 9, 9)}, "box: .* with x1 < x2"),
        ({"box": (9, 9, 1, 1)}, "box: .* with x1 < x2"),
        ({"mask": MASK, "points": [(1, 1)]}, "mask: stands alone"),
        ({"mask": MASK, "box": (1, 1, 9, 9)}, "mask: stands alone"),
        ({"mask": NOTHING}, "mask: marks no pixel"),
        ({"mask": Rle((64, 48), MASK.counts)}, r"mask.size: \[64, 48\] is not .* which is \[48, 64\]"),
        ({"mask": Rle((48, 64), b"zz")}, "mask.counts: not COCO's"),
        ({"mask": Rle((48, 64), b"00")}, "mask.counts: the runs add up to 0"),
    ],
)
def test_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BadPrompt, match=text):
        prompt_of(add(**fields), SIZE_WH)


@pytest.mark.parametrize(
    ("point", "taken"),
    [
        ((0, 0), (0, 0)),
        ((63.9, 47.75), (63.9, 47.75)),
        ((64, 10), (63.5, 10)),  # on the right border: the last pixel, by its centre
        ((10, 48), (10, 47.5)),
        ((64, 48), (63.5, 47.5)),
    ],
)
def test_points_on_the_border_count(point: tuple[float, float], taken: tuple[float, float]) -> None:
    assert prompt_of(add(points=[point]), SIZE_WH).points_xy.tolist() == np.array([taken], np.float32).tolist()


@pytest.mark.parametrize(
    ("box", "taken"),
    [
        ((0, 0, 64, 48), (0, 0, 64, 48)),
        ((50, 40, 120, 70), (50, 40, 64, 48)),
        ((-5, -1e300, 1, 1), (0, 0, 1, 1)),
    ],
)
def test_a_box_is_clipped_to_the_picture(box: Any, taken: tuple[float, ...]) -> None:
    assert box_of(box, SIZE_WH).tolist() == list(taken)


@pytest.mark.parametrize("fields", [{"box": (1, 1, 9, 9)}, {"points": [(1, 1), (2, 2)]}])
def test_points_off_the_object_beside_something_on_it(fields: dict[str, Any]) -> None:
    points = [(5, 5), *fields.pop("points", [])]
    prompt = prompt_of(add(points=points, labels=[0, *[1] * (len(points) - 1)], **fields), SIZE_WH)
    assert prompt.labels_n[0] == 0


def test_a_correction_may_be_nothing_but_points_off_the_object() -> None:
    args = ObjectsRefine(stream="cam1", object=1, points=[(1, 1)], labels=[0])
    assert prompt_of(args, SIZE_WH, correction=True).labels_n.tolist() == [0]


TAKEN = [
    {"points": [(64, 10)]},
    {"points": [(1, 1), (2, 2)], "labels": [1, 0]},
    {"box": (50, 40, 120, 70)},
    {"mask": Rle((48, 64), rle_encode(square_mask()))},
]


@pytest.mark.parametrize("fields", TAKEN)
def test_what_came_through_the_door_passes_it_again_unchanged(fields: dict[str, Any]) -> None:
    prompt = prompt_of(add(**fields), SIZE_WH)
    again = checked(prompt, SIZE_WH)
    for name in ("points_xy", "labels_n", "box_xyxy", "mask_hw"):
        np.testing.assert_array_equal(getattr(again, name), getattr(prompt, name))


def test_a_detection_s_box_is_named_as_such() -> None:
    with pytest.raises(BadPrompt, match=r"detections\[3\]\.box: "):
        box_of((0, 0, 0, 0), SIZE_WH, "detections[3].box")
