"""`objects.add_many`: a detector's boxes become objects, unless they are on one that is tracked already."""

from collections.abc import Generator
from typing import Any

from tracker.daemon.admission import admit
from tracker.daemon.context import Context, SlowOperations, frame_of
from tracker.daemon.matching import matched, near, small
from tracker.engine.memory import ObjectMemory
from tracker.protocol import replies, requests
from tracker.protocol.prompts import box_of
from tracker.tracking.jobs import Slices
from tracker.tracking.state import TrackedObject, TrackedStream
from tracker.types import Frame, ObjectMask, Prompt


class DetectionOperations:
    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def slow_table(self) -> SlowOperations:
        return {"objects.add_many": self.objects_add_many}

    def objects_add_many(self, args: requests.ObjectsAddMany, _: Any) -> Slices:
        """Every detection is prompted with its box, a slice for each; the mask decides whether it is one of the
        tracked objects. Nothing changes before all were prompted."""
        stream = self._context.table.stream(args.stream)
        frame = frame_of(stream, args.frame, args.time)
        prompted = yield from self._prompted(args.detections, frame)
        followed = {obj: small(near(obj, frame)) for obj in stream.objects.values()}
        matches = matched([small(mask) for _, mask in prompted], list(followed.values()), args.match_iou)
        objects = list(followed)
        fresh = [i for i, (_, mask) in enumerate(prompted) if i not in matches and small(mask).any()]
        admit(self._context, stream, len(fresh), "detections")
        added = {i: self._start(stream, frame, prompted[i], args.detections[i]) for i in fresh}
        return replies.AddedMany(
            stream=stream.name,
            frame=frame.index,
            objects=[
                replies.Match(object=objects[matches[i][0]].id, added=False, iou=round(matches[i][1], 4))
                if i in matches
                else replies.Match(object=added[i].id if i in added else None, added=i in added, iou=None)
                for i in range(len(prompted))
            ],
        )

    def _prompted(
        self, detections: list[requests.Detection], frame: Frame
    ) -> Generator[None, None, list[tuple[ObjectMemory, ObjectMask]]]:
        boxes = [box_of(d.box, frame.size_wh, f"detections[{i}].box") for i, d in enumerate(detections)]
        features = self._context.features(frame)
        prompted = []
        for box in boxes:
            prompt = Prompt(box_xyxy=box)
            prompted.append(
                self._context.engine.prompt(ObjectMemory(), features, 0, frame.index, prompt, frame.size_wh)
            )
            yield
        return prompted

    def _start(
        self,
        stream: TrackedStream,
        frame: Frame,
        prompted: tuple[ObjectMemory, ObjectMask],
        detection: requests.Detection,
    ) -> TrackedObject:
        return self._context.objects.start(stream, frame, *prompted, label=detection.label, meta=detection.meta)
