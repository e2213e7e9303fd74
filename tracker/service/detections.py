"""`objects.add_many`: a detector's boxes become objects, unless they are on one that is tracked already."""

import numpy as np

from tracker import protocol as p
from tracker.engine.track import Track
from tracker.errors import AtCapacity
from tracker.geometry import mask_of
from tracker.objects import Lane, TrackedObject
from tracker.prompts import box_of
from tracker.service.context import Context, Operations, frame_of
from tracker.types import Bool, Frame, ObjectMask, Prompt

# Masks are compared at this size whatever the video's: every object against every detection at 1080p would take
# longer than tracking them.
COMPARED_WH = (256, 256)


class DetectionOperations:
    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def table(self) -> Operations:
        return {"objects.add_many": self.objects_add_many}

    def objects_add_many(self, args: p.ObjectsAddMany) -> p.AddedMany:
        """Every detection is prompted with its box; the mask decides whether it is one of the tracked objects."""
        lane = self._context.world.lane(args.stream)
        frame = frame_of(lane, args.frame, args.time)
        prompted = self._prompted(args.detections, frame)
        tracked = {
            obj: _flat(mask) for obj in lane.objects.values() if (mask := _mask_near(obj, frame)) is not None
        }
        matches = matched([_flat(mask) for _, mask in prompted], list(tracked.values()), args.match_iou)
        objects = list(tracked)
        fresh = [i for i, (_, mask) in enumerate(prompted) if i not in matches and _flat(mask).any()]
        self._refuse_too_many(len(fresh))
        added = {i: self._add(lane, frame, prompted[i], args.detections[i]) for i in fresh}
        return p.AddedMany(
            stream=lane.name,
            frame=frame.index,
            objects=[
                p.Match(object=objects[matches[i][0]].id, added=False, iou=round(matches[i][1], 4))
                if i in matches
                else p.Match(object=added[i].id if i in added else None, added=i in added, iou=None)
                for i in range(len(prompted))
            ],
        )

    def _prompted(self, detections: list[p.Detection], frame: Frame) -> list[tuple[Track, ObjectMask]]:
        boxes = [box_of(d.box, frame.size_wh, f"detections[{i}].box") for i, d in enumerate(detections)]
        features = self._context.features(frame)
        return [
            self._context.engine.prompt(Track(), features, 0, frame.index, Prompt(box_xyxy=box), frame.size_wh)
            for box in boxes
        ]

    def _refuse_too_many(self, count: int) -> None:
        limit = self._context.config.engine.max_objects
        free = limit - self._context.world.object_count()
        if count > free:
            raise AtCapacity(
                f"detections: {count} of them are new, but only {free} of {limit} objects (engine.max_objects) are "
                f"free; remove some, or send fewer"
            )

    def _add(
        self, lane: Lane, frame: Frame, prompted: tuple[Track, ObjectMask], detection: p.Detection
    ) -> TrackedObject:
        obj = TrackedObject(
            lane.claim_id(None), lane, *prompted, frame.index, frame.size_wh, detection.label, detection.meta
        )
        self._context.follow(obj)
        return obj


def matched(found: list[Bool], tracked: list[Bool], min_iou: float) -> dict[int, tuple[int, float]]:
    """Which of `found` is which of `tracked`, and how well: best pairs first, each mask in one pair only."""
    if not found or not tracked:
        return {}
    found_np = np.stack(found).reshape(len(found), -1).astype(np.float32)
    tracked_mp = np.stack(tracked).reshape(len(tracked), -1).astype(np.float32)
    both_nm = found_np @ tracked_mp.T
    either_nm = found_np.sum(1)[:, None] + tracked_mp.sum(1)[None] - both_nm
    iou_nm = both_nm / np.maximum(either_nm, 1)
    pairs: dict[int, tuple[int, float]] = {}
    for i, j in zip(*np.unravel_index(np.argsort(-iou_nm, axis=None, kind="stable"), iou_nm.shape), strict=True):
        taken = {m for m, _ in pairs.values()}
        if iou_nm[i, j] >= max(min_iou, 1e-6) and i not in pairs and j not in taken:
            pairs[int(i)] = int(j), float(iou_nm[i, j])
    return pairs


def _flat(mask: ObjectMask) -> Bool:
    if mask.presence <= 0:
        return np.zeros(COMPARED_WH[::-1], np.bool_)
    return mask_of(mask.logits_hw, COMPARED_WH)


def _mask_near(obj: TrackedObject, frame: Frame) -> ObjectMask:
    """The object on the frame itself where its memory still has it, else where it was last seen."""
    entry = obj.track.find(frame.index)
    if entry is None or entry.logits_hw is None:
        return obj.mask
    return ObjectMask(entry.logits_hw.cpu().numpy(), entry.score, entry.presence)
