"""Results as `supervision.Detections`, for its annotators, zones and counters."""

from typing import TYPE_CHECKING

import numpy as np

from tracker.exports.results import FrameResult, mask_of_record

if TYPE_CHECKING:  # an optional extra
    import supervision


def to_supervision(result: FrameResult) -> "supervision.Detections":
    """The visible objects: boxes, masks, scores, `tracker_id` the object, `data["class_name"]` the label."""
    import supervision

    records = list(result.visible())
    if not records:
        return supervision.Detections.empty()
    return supervision.Detections(
        xyxy=np.array([record.box for record in records], np.float32),
        mask=np.stack([mask_of_record(record, result.size_wh) for record in records]),
        confidence=np.array([record.score or 0 for record in records], np.float32),
        class_id=np.zeros(len(records), np.int64),
        tracker_id=np.array([record.object for record in records]),
        data={"class_name": np.array([record.label or "" for record in records])},
    )
