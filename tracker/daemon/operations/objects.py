"""`objects.*`: what is followed, and where it was clicked."""

from dataclasses import replace

from msgspec import UNSET, structs

from tracker.daemon.admission import admit
from tracker.daemon.answers import answers
from tracker.daemon.context import Context, corrected_frame_of, frame_of
from tracker.engine.memory import ObjectMemory
from tracker.errors import BadPrompt, FrameGone, FrameMarked, NoObject
from tracker.images.types import Frame
from tracker.masks.types import ObjectMask, Shape
from tracker.protocol import object_requests, replies
from tracker.protocol.operations import OBJECTS_ADD, OBJECTS_LIST, OBJECTS_REFINE, OBJECTS_REMOVE, OBJECTS_UPDATE
from tracker.protocol.prompts import prompt_of
from tracker.tracking.records import ObjectSnapshot, snapshot_record
from tracker.tracking.state import TrackedObject


class ObjectOperations:
    def __init__(self, context: Context) -> None:
        self._context = context

    @answers(OBJECTS_ADD)
    def objects_add(self, args: object_requests.ObjectsAdd) -> replies.AddedObject:
        stream = self._context.table.stream(args.stream)
        admit(self._context, stream, 1, "object")
        object_id = stream.claim_id(args.object)
        frame = frame_of(stream, args.frame, args.time)
        memory, mask = self._context.prompted(frame, prompt_of(args, frame.size_wh))
        shape = self._shape(mask, frame)
        obj = self._context.objects.start(
            stream,
            frame,
            memory,
            mask,
            object_id=object_id,
            label=args.label,
            meta=args.meta,
            expire_s=args.expire_s,
        )
        maybe = self._looked_at(obj, frame, mask)
        result = structs.asdict(_result(obj, frame, shape))
        return replies.AddedObject(**result, maybe=maybe or UNSET)

    def _looked_at(self, obj: TrackedObject, frame: Frame, mask: ObjectMask) -> list[replies.Maybe]:
        """Keep its first look, and find who else it may be; without one, it is followed all the same."""
        maybe: list[replies.Maybe] = []
        with self._context.failures.spared("looks"):
            pooled_c = self._context.engine.look(self._context.features(frame), 0, mask.logits_hw > 0)
            maybe += self._context.looks.added(obj, frame, mask, pooled_c)
        return maybe

    @answers(OBJECTS_REFINE)
    def objects_refine(self, args: object_requests.ObjectsRefine) -> replies.ObjectResult:
        stream = self._context.table.stream(args.stream)
        obj = stream.object(args.object)
        frame = corrected_frame_of(stream, args.frame)
        prompt = prompt_of(args, frame.size_wh, correction=True)
        try:
            memory, mask = self._context.prompted(frame, prompt, self._led_to(obj, frame))
        except FrameMarked as error:
            raise BadPrompt(f"{error}: give points, or say replace: true to mark the frame afresh") from None
        shape = self._shape(mask, frame)
        self._context.objects.correct(obj, frame, memory, mask)
        return _result(obj, frame, shape)

    @answers(OBJECTS_UPDATE)
    def objects_update(self, args: object_requests.ObjectsUpdate) -> replies.UpdatedObject:
        obj = self._context.table.stream(args.stream).object(args.object)
        given = {name: getattr(args, name) for name in ("label", "meta", "expire_s")}
        self._context.objects.update(obj, **{name: value for name, value in given.items() if value is not UNSET})
        return replies.UpdatedObject(**structs.asdict(self._entry(obj)), durable=False)

    @answers(OBJECTS_REMOVE)
    def objects_remove(self, args: object_requests.ObjectsRemove) -> replies.Removed:
        waiting = self._forget_waiting(args)
        if waiting and (args.object is not None or args.stream not in self._context.table):
            return replies.Removed(removed=waiting)
        stream = self._context.table.stream(args.stream)
        gone = list(stream.objects.values()) if args.object is None else [stream.object(args.object)]
        for obj in gone:
            self._context.objects.remove(obj)
        return replies.Removed(removed=[obj.id for obj in gone] + waiting)

    @answers(OBJECTS_LIST)
    def objects_list(self, args: object_requests.ObjectsList) -> replies.ObjectList:
        table = self._context.table
        streams = [s for s in table if args.stream in (None, s.name)]
        if not streams and args.stream is not None and not (args.all and self._waiting(args.stream)):
            table.stream(args.stream)  # says what streams there are
        return replies.ObjectList(
            objects=[self._entry(obj) for stream in streams for obj in stream.objects.values()],
            waiting=self._waiting(args.stream) if args.all else UNSET,
        )

    # ------------------------------------------------------------------------------------------------ helpers

    def _waiting(self, stream: str | None) -> list[replies.WaitingObject]:
        found = [kept.saved for kept in self._context.persistence.waiting.values()]
        return [
            replies.WaitingObject(object=o.id, stream=o.stream, frame=o.frame, label=o.label, meta=o.meta)
            for o in found
            if stream in (None, o.stream)
        ]

    def _forget_waiting(self, args: object_requests.ObjectsRemove) -> list[int]:
        """Ids of the objects that waited and are meant."""
        persistence = self._context.persistence
        found = [i for s, i in persistence.waiting if s == args.stream and args.object in (None, i)]
        for object_id in found:
            persistence.forget_waiting(args.stream, object_id)
        return found

    def _led_to(self, obj: TrackedObject, frame: Frame) -> ObjectMemory:
        """The object's memory as it was on `frame`; where it skipped that frame, it is tracked there now."""
        memory = obj.memory
        if frame.index in memory.frames:
            return memory.rewind(frame.index)
        oldest, newest = memory.frames[0], memory.frames[-1]
        if frame.index < oldest:
            raise FrameGone(
                f"frame: {frame.index} is older than what object {obj.id} can be corrected on; "
                f"it keeps frames {oldest} to {newest} (engine.history_frames)"
            )
        led_on, _ = self._context.propagated(frame, memory.rewind(frame.index))
        return led_on

    def _shape(self, mask: ObjectMask, frame: Frame) -> Shape:
        """The geometry of what a prompt gave. Raises NoObject where that is empty."""
        shape = self._context.shape_options.shape(mask, frame.size_wh)
        if shape.area == 0:
            raise NoObject("the prompt gave an empty mask; click on the object itself, or draw a box around it")
        return shape

    def _entry(self, obj: TrackedObject) -> replies.ObjectEntry:
        shape = self._context.shape_options.shape(obj.mask, obj.size_wh)
        record = snapshot_record(ObjectSnapshot.of(obj), shape)
        return replies.ObjectEntry(**structs.asdict(record), stream=obj.stream.name, frame=obj.frame)


def _result(obj: TrackedObject, frame: Frame, shape: Shape) -> replies.ObjectResult:
    """The reply to a prompt on `frame`: the object as it is there, even while it has yet to catch up."""
    record = snapshot_record(replace(ObjectSnapshot.of(obj), behind=None), shape)
    return replies.ObjectResult(
        **structs.asdict(record), stream=obj.stream.name, frame=frame.index, epoch=frame.epoch, durable=False
    )
