"""`objects.add_many`: a detector's boxes become objects, unless they are on one that is tracked already."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from tracker.daemon.admission import admit
from tracker.daemon.answers import answers_in_slices
from tracker.daemon.context import Context, frame_of
from tracker.daemon.matching import matched, near, small
from tracker.engine.memory import ObjectMemory
from tracker.errors import BadPrompt
from tracker.images.types import Frame
from tracker.masks.types import F32, Bool, ObjectMask
from tracker.protocol import replies
from tracker.protocol.object_requests import Detection, ObjectsAddMany
from tracker.protocol.operations import OBJECTS_ADD_MANY
from tracker.protocol.prompt import Prompt
from tracker.protocol.prompts import box_of
from tracker.tracking.jobs import Slices
from tracker.tracking.state import TrackedStream

Boxes = dict[int, F32]  # by the detections' places in the request
Matches = dict[int, replies.Match]

NOTHING_THERE = replies.Match(object=None, added=False, iou=None)


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """One detection's box as the model sees it."""

    memory: ObjectMemory
    mask: ObjectMask
    small_hw: Bool

    @property
    def seen(self) -> bool:
        return bool(self.small_hw.any())


class DetectionOperations:
    def __init__(self, context: Context) -> None:
        self._context = context

    @answers_in_slices(OBJECTS_ADD_MANY)
    def objects_add_many(self, args: ObjectsAddMany, _: Any) -> Slices[replies.AddedMany]:
        """Every detection is prompted with its box; the mask decides whether it is one of the tracked objects.

        Nothing changes before all were prompted.
        """
        stream = self._context.table.stream(args.stream)
        frame = frame_of(stream, args.frame, args.time)
        boxes, matches = _boxes(args.detections, frame.size_wh)
        marked = yield from self._marked(boxes, frame)
        matches |= _known(stream, frame, marked, args.match_iou)
        fresh = {i: mark for i, mark in marked.items() if i not in matches and mark.seen}
        matches |= self._added(stream, frame, fresh, args.detections)
        return _reply(args, frame, matches)

    def _marked(self, boxes: Boxes, frame: Frame) -> Generator[None, None, dict[int, _Marked]]:
        """One slice for each box."""
        marked = {}
        for i, box_xyxy in boxes.items():
            memory, mask = self._context.prompted(frame, Prompt(box_xyxy=box_xyxy))
            marked[i] = _Marked(memory, mask, small(mask))
            yield
        return marked

    def _added(
        self,
        stream: TrackedStream,
        frame: Frame,
        fresh: dict[int, _Marked],
        detections: list[Detection],
    ) -> Matches:
        """All of them, or AtCapacity."""
        admit(self._context, stream, len(fresh), "detections")
        matches = {}
        for i, mark in fresh.items():
            label, meta = detections[i].label, detections[i].meta
            obj = self._context.objects.start(stream, frame, mark.memory, mark.mask, label=label, meta=meta)
            matches[i] = replies.Match(object=obj.id, added=True, iou=None)
        return matches


def _boxes(detections: list[Detection], size_wh: tuple[int, int]) -> tuple[Boxes, Matches]:
    """The boxes on the picture, and what is said of the others."""
    boxes, refused = {}, {}
    for i, detection in enumerate(detections):
        try:
            boxes[i] = box_of(detection.box, size_wh, f"detections[{i}].box")
        except BadPrompt as error:
            refused[i] = replies.Match(object=None, added=False, iou=None, refused=error.message)
    return boxes, refused


def _known(stream: TrackedStream, frame: Frame, marked: dict[int, _Marked], min_iou: float) -> Matches:
    """The detections of objects that are tracked already."""
    places, objects = list(marked), list(stream.objects.values())
    found = [marked[i].small_hw for i in places]
    tracked = [small(near(obj, frame)) for obj in objects]
    matches = {}
    for row, (column, iou) in matched(found, tracked, min_iou).items():
        matches[places[row]] = replies.Match(object=objects[column].id, added=False, iou=round(iou, 4))
    return matches


def _reply(args: ObjectsAddMany, frame: Frame, matches: Matches) -> replies.AddedMany:
    in_order = [matches.get(i, NOTHING_THERE) for i in range(len(args.detections))]
    return replies.AddedMany(stream=args.stream, frame=frame.index, objects=in_order)
