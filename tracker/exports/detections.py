"""Results as `supervision.Detections`, for its annotators, zones and counters."""

from typing import TYPE_CHECKING

import numpy as np

from tracker.exports.results import FrameResult, mask_of_record

if TYPE_CHECKING:  # an optional extra
    import supervision


def to_supervision(result: FrameResult, class_ids: dict[str, int] | None = None) -> "supervision.Detections":
    """The visible objects: boxes, masks, scores, `tracker_id` the object, `data["class_name"]` the label.

    `class_id` differs by label. Give the same `class_ids` for every frame: new labels get the next number in it.
    """
    import supervision

    records = list(result.visible())
    if not records:
        return supervision.Detections.empty()
    boxes = [record.box for record in records]
    masks = [mask_of_record(record, result.size_wh) for record in records]
    scores = [record.score or 0 for record in records]
    names = [record.label or "" for record in records]
    objects = [record.object for record in records]
    return supervision.Detections(
        xyxy=np.array(boxes, np.float32),
        mask=np.stack(masks),
        confidence=np.array(scores, np.float32),
        class_id=np.array(_numbered(names, {} if class_ids is None else class_ids)),
        tracker_id=np.array(objects),
        data={"class_name": np.array(names)},
    )


def _numbered(names: list[str], class_ids: dict[str, int]) -> list[int]:
    return [class_ids.setdefault(name, len(class_ids)) for name in names]
