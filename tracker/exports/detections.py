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
    class_ids = {} if class_ids is None else class_ids
    names = [record.label or "" for record in records]
    return supervision.Detections(
        xyxy=np.array([record.box for record in records], np.float32),
        mask=np.stack([mask_of_record(record, result.size_wh) for record in records]),
        confidence=np.array([record.score or 0 for record in records], np.float32),
        class_id=np.array([class_ids.setdefault(name, len(class_ids)) for name in names]),
        tracker_id=np.array([record.object for record in records]),
        data={"class_name": np.array(names)},
    )
