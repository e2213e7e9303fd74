"""`objects.*`: what is followed, and where it was clicked."""

from msgspec import UNSET, structs

from tracker.daemon.admission import admit
from tracker.daemon.context import Context, Operations, frame_of
from tracker.engine.memory import ObjectMemory
from tracker.errors import FrameGone, NoObject
from tracker.protocol import replies, requests
from tracker.protocol.prompts import prompt_of
from tracker.tracking.records import ObjectSnapshot, object_record
from tracker.tracking.scheduler import frames_behind
from tracker.tracking.state import TrackedObject
from tracker.types import Frame, ObjectMask, Prompt


class ObjectOperations:
    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def table(self) -> Operations:
        return {
            "objects.add": self.objects_add,
            "objects.refine": self.objects_refine,
            "objects.update": self.objects_update,
            "objects.remove": self.objects_remove,
            "objects.list": self.objects_list,
        }

    def objects_add(self, args: requests.ObjectsAdd) -> replies.ObjectResult:
        tracked = self._context.table.tracked(args.stream)
        admit(self._context, tracked, 1, "object")
        object_id = tracked.claim_id(args.object)
        frame = frame_of(tracked, args.frame, args.time)
        track, mask = self._prompted(ObjectMemory(), frame, prompt_of(args, frame.size_wh))
        obj = TrackedObject(
            object_id, tracked, track, mask, frame.index, frame.size_wh, args.label, args.meta, args.expire_s
        )
        result = self._result(obj, frame, mask)
        self._context.follow(obj)
        return result

    def objects_refine(self, args: requests.ObjectsRefine) -> replies.ObjectResult:
        tracked = self._context.table.tracked(args.stream)
        obj = tracked.object(args.object)
        frame = frame_of(tracked, args.frame)
        track, mask = self._prompted(self._led_to(obj, frame), frame, prompt_of(args, frame.size_wh))
        result = self._result(obj, frame, mask)
        obj.update(frame, track, mask)
        obj.pending = bool(frames_behind(obj))
        self._context.tell(obj, "object_refined")
        if not obj.visible:  # it is found, and must not expire while it catches up
            obj.visible, obj.lost_since_ns = True, None
            self._context.tell(obj, "object_found")
        return result

    def objects_update(self, args: requests.ObjectsUpdate) -> replies.ObjectEntry:
        obj = self._context.table.tracked(args.stream).object(args.object)
        for name in ("label", "meta", "expire_s"):
            if (value := getattr(args, name)) is not UNSET:
                setattr(obj, name, value)
        return self._entry(obj)

    def objects_remove(self, args: requests.ObjectsRemove) -> replies.Removed:
        tracked = self._context.table.tracked(args.stream)
        gone = list(tracked.objects.values()) if args.object is None else [tracked.object(args.object)]
        for obj in gone:
            self._context.remove(obj, "object_removed")
        return replies.Removed(removed=[obj.id for obj in gone])

    def objects_list(self, args: requests.ObjectsList) -> replies.ObjectList:
        tracked_streams = (
            list(self._context.table) if args.stream is None else [self._context.table.tracked(args.stream)]
        )
        return replies.ObjectList(
            objects=[self._entry(obj) for tracked in tracked_streams for obj in tracked.objects.values()]
        )

    # ------------------------------------------------------------------------------------------------ helpers

    def _prompted(self, track: ObjectMemory, frame: Frame, prompt: Prompt) -> tuple[ObjectMemory, ObjectMask]:
        return self._context.engine.prompt(
            track, self._context.features(frame), 0, frame.index, prompt, frame.size_wh
        )

    def _led_to(self, obj: TrackedObject, frame: Frame) -> ObjectMemory:
        """The object's memory as it is right on `frame`: tracked there first if it was not yet."""
        if obj.track.find(frame.index) is not None and frame.index in obj.track.frames:
            return obj.track.rewind(frame.index)
        if frame.index < obj.track.frames[0]:
            raise FrameGone(
                f"frame: {frame.index} is older than what object {obj.id} can be corrected on; "
                f"it keeps frames {obj.track.frames[0]} to {obj.track.frames[-1]} (engine.history_frames)"
            )
        move = obj.track.rewind(frame.index), 0, frame.index
        ((track, _),) = self._context.engine.propagate([move], self._context.features(frame))
        return track

    def _result(self, obj: TrackedObject, frame: Frame, mask: ObjectMask) -> replies.ObjectResult:
        """The reply to a prompt that gave `mask`. Raises NoObject where that is empty."""
        shape = self._context.look.shape(mask, frame.size_wh)
        if shape.area == 0:
            raise NoObject("the prompt gave an empty mask; click on the object itself, or draw a box around it")
        record = object_record(ObjectSnapshot(obj, mask, obj.age, None), shape)
        return replies.ObjectResult(
            **structs.asdict(record), stream=obj.tracked.name, frame=frame.index, epoch=frame.epoch, durable=False
        )

    def _entry(self, obj: TrackedObject) -> replies.ObjectEntry:
        record = object_record(ObjectSnapshot.of(obj), self._context.look.shape(obj.mask, obj.size_wh))
        return replies.ObjectEntry(**structs.asdict(record), stream=obj.tracked.name, frame=obj.frame)
