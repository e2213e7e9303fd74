"""`objects.add_many`: a detector's boxes become objects, unless they are on one that is tracked already."""

from collections.abc import Generator
from typing import Any

from tracker import protocol as p
from tracker.engine.track import Track
from tracker.jobs import Slices
from tracker.objects import Lane, TrackedObject
from tracker.prompts import box_of
from tracker.service.admission import admit
from tracker.service.context import Context, SlowOperations, frame_of
from tracker.service.matching import matched, near, small
from tracker.types import Frame, ObjectMask, Prompt


class DetectionOperations:
    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def slow_table(self) -> SlowOperations:
        return {"objects.add_many": self.objects_add_many}

    def objects_add_many(self, args: p.ObjectsAddMany, _: Any) -> Slices:
        """Every detection is prompted with its box, a slice for each; the mask decides whether it is one of the
        tracked objects. Nothing changes before all were prompted."""
        lane = self._context.world.lane(args.stream)
        frame = frame_of(lane, args.frame, args.time)
        prompted = yield from self._prompted(args.detections, frame)
        tracked = {obj: small(near(obj, frame)) for obj in lane.objects.values()}
        matches = matched([small(mask) for _, mask in prompted], list(tracked.values()), args.match_iou)
        objects = list(tracked)
        fresh = [i for i, (_, mask) in enumerate(prompted) if i not in matches and small(mask).any()]
        admit(self._context, lane, len(fresh), "detections")
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

    def _prompted(
        self, detections: list[p.Detection], frame: Frame
    ) -> Generator[None, None, list[tuple[Track, ObjectMask]]]:
        boxes = [box_of(d.box, frame.size_wh, f"detections[{i}].box") for i, d in enumerate(detections)]
        features = self._context.features(frame)
        prompted = []
        for box in boxes:
            prompt = Prompt(box_xyxy=box)
            prompted.append(self._context.engine.prompt(Track(), features, 0, frame.index, prompt, frame.size_wh))
            yield
        return prompted

    def _add(
        self, lane: Lane, frame: Frame, prompted: tuple[Track, ObjectMask], detection: p.Detection
    ) -> TrackedObject:
        obj = TrackedObject(
            lane.claim_id(None), lane, *prompted, frame.index, frame.size_wh, detection.label, detection.meta
        )
        self._context.follow(obj)
        return obj
