"""`objects.describe`, and who is described without being asked for. It belongs to the main loop."""

import contextlib

from tracker.daemon.context import Context
from tracker.daemon.pictures import mask_on
from tracker.errors import NoObject, TrackerError
from tracker.images.types import Frame
from tracker.labels.describer import STABLE_FRAMES, Describer, Question
from tracker.masks.types import ObjectMask
from tracker.protocol.fields import EventName
from tracker.protocol.operations import OBJECTS_DESCRIBE
from tracker.protocol.records import Description
from tracker.protocol.replies import DescribedObject
from tracker.sockets.request import Request
from tracker.tracking.state import TrackedObject

MOMENTS = 2  # the newest and the oldest that are at hand


class Descriptions:
    """What is asked of the describer, and what becomes of its answers."""

    names = frozenset({OBJECTS_DESCRIBE.name})

    def __init__(self, context: Context, describer: Describer) -> None:
        self._context = context
        self._describer = describer
        context.events.listeners["descriptions"] = self._happened

    def answer(self, request: Request) -> None:
        """Raises TrackerError for what can be refused at once."""
        args = request.args
        obj = self._context.table.stream(args.stream).object(args.object)
        text = args.question or self._describer.question(obj.label)

        def reply(found: Description) -> None:
            request.reply(
                DescribedObject(
                    stream=args.stream, object=obj.id, text=found.text, model=found.model, time=found.time
                )
            )

        moments = self._moments(obj)
        if not moments:
            raise NoObject(f"object {obj.id} was not seen on any frame that is at hand")
        self._describer.offer(Question(obj, obj.revision, text, moments, reply, request.fail))

    def _happened(self, obj: TrackedObject, name: EventName) -> None:
        if name == "object_lost" and self._describer.wants("lost"):
            self._offer(obj)

    def tick(self) -> None:
        """Write down what was said, and hand over who is stable by now."""
        for question, description in self._describer.take_answers():
            obj = question.object
            if obj.is_outdated(question.revision):
                continue
            obj.description = description
            self._context.events.of_object(obj, "object_described", obj.frame, message=description.text)
        if self._describer.wants("stable"):
            for stream in self._context.table:
                for obj in stream.objects.values():
                    if obj.age >= STABLE_FRAMES and obj.visible and not (obj.pending or obj.describe_asked):
                        self._offer(obj)

    def _offer(self, obj: TrackedObject) -> None:
        """Have it described, unless there is no room; then it has had its turn."""
        obj.describe_asked = True
        moments = self._moments(obj)
        if moments:
            with contextlib.suppress(TrackerError):
                self._describer.offer(Question(obj, obj.revision, self._describer.question(obj.label), moments))

    def _moments(self, obj: TrackedObject) -> list[tuple[Frame, ObjectMask]]:
        """Frames that are still buffered and on which it was seen, with its masks, the newest last."""
        buffer = obj.stream.source.buffer
        there = [index for index in sorted({*obj.memory.frames, obj.frame}) if index in buffer]
        seen = []
        for index in there:
            mask = mask_on(obj, index)
            if mask is not None and mask.presence > 0:
                seen.append((buffer.get(index), mask))
        return seen if len(seen) < MOMENTS else [seen[0], seen[-1]]
