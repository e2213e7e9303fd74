"""`segment.*`: masks on any buffered frame, without tracking anything, unless that is asked for."""

from collections.abc import Callable, Generator
from typing import Any

from msgspec import structs

from tracker.daemon.admission import free_slots
from tracker.daemon.answers import answers, answers_in_slices
from tracker.daemon.context import Context, frame_of
from tracker.daemon.matching import already_tracked
from tracker.engine import automatic
from tracker.engine.found_masks import Found, chosen
from tracker.engine.memory import ObjectMemory
from tracker.engine.segmenter import Candidate, Segmenter
from tracker.images import imaging
from tracker.images.types import Frame
from tracker.masks.geometry import shape_of, shape_of_mask
from tracker.masks.types import ObjectMask
from tracker.protocol import replies, requests
from tracker.protocol.operations import SEGMENT_ALL, SEGMENT_CANCEL, SEGMENT_PROMPT
from tracker.protocol.prompt import Prompt
from tracker.protocol.prompts import prompt_of
from tracker.tracking.jobs import Slices
from tracker.tracking.state import TrackedObject, TrackedStream

Prompted = tuple[ObjectMemory, ObjectMask]


class SegmentOperations:
    """`cancel` ends a `segment.all` by its request's id."""

    def __init__(self, context: Context, cancel: Callable[[Any], None]) -> None:
        self._context = context
        self._cancel = cancel
        self._segmenter = Segmenter(context.engine)

    @answers(SEGMENT_PROMPT)
    def segment_prompt(self, args: requests.SegmentPrompt) -> replies.Candidates:
        stream = self._context.table.stream(args.stream)
        frame = frame_of(stream, args.frame)
        prompt = _prompt(args, frame)
        key = stream.name, frame.index
        found = self._segmenter.candidates(key, frame.image, prompt, ref=args.ref, multimask=args.multimask)
        candidates = [self._candidate(one, frame) for one in found]
        return replies.Candidates(stream=stream.name, frame=frame.index, candidates=candidates)

    @answers(SEGMENT_CANCEL)
    def segment_cancel(self, args: requests.SegmentCancel) -> replies.Empty:
        self._cancel(args.id)
        return replies.Empty()

    @answers_in_slices(SEGMENT_ALL)
    def segment_all(self, args: requests.SegmentAll, request_id: Any) -> Slices[replies.FoundMasks]:
        """In slices that end with a batch of points, a mask, its outline, or an object that is tracked then."""
        stream = self._context.table.stream(args.stream)
        frame = frame_of(stream, args.frame)
        found = yield from self._searched(stream, frame, args, request_id)
        kept = yield from chosen(found, args.max_masks, alone=args.exclusive)
        records = yield from self._records(kept)
        reply = replies.FoundMasks(stream=stream.name, frame=frame.index, masks=records)
        if not args.track:
            return reply
        objects = yield from self._track(stream, frame, kept)
        for i, obj in objects.items():
            records[i] = structs.replace(records[i], object=obj.id)
        return structs.replace(reply, durable=False)

    def _records(self, found: list[Found]) -> Generator[None, None, list[replies.FoundMask]]:
        records = []
        for one in found:
            records.append(self._found(one))
            yield
        return records

    def _searched(
        self, stream: TrackedStream, frame: Frame, args: requests.SegmentAll, request_id: Any
    ) -> Generator[None, None, list[Found]]:
        """Everything on the frame, best first; each batch of points is an event."""

        def tell(progress: automatic.Progress) -> None:
            counts = {"id": request_id, "done": progress.done, "total": progress.total}
            self._context.events.of_stream(stream.source, "segment_progress", frame.index, **counts)

        rgb_hwc = imaging.to_rgb(frame.image)
        return (yield from automatic.searched(self._context.engine, rgb_hwc, args, tell))

    def _candidate(self, candidate: Candidate, frame: Frame) -> replies.Candidate:
        tolerance_px = self._context.config.publish.outline_tolerance_px
        shape = shape_of(candidate.logits_hw, frame.size_wh, tolerance_px=tolerance_px)
        return replies.Candidate(
            score=round(candidate.score, 4),
            box=shape.box_xyxy,
            area=shape.area,
            outline=shape.outline,
            ref=candidate.ref,
        )

    def _found(self, found: Found) -> replies.FoundMask:
        shape = shape_of_mask(found.mask_hw, tolerance_px=self._context.config.publish.outline_tolerance_px)
        assert shape.box_xyxy is not None  # the search gives no empty masks
        return replies.FoundMask(
            score=round(found.score, 4),
            stability=round(found.stability, 4),
            box=shape.box_xyxy,
            area=shape.area,
            outline=shape.outline,
        )

    def _track(
        self, stream: TrackedStream, frame: Frame, found: list[Found]
    ) -> Generator[None, None, dict[int, TrackedObject]]:
        """Follow what was found, as far as there is room; what is tracked already stays what it is. Nothing is
        followed before everything was prompted, so that a search that is cancelled changes nothing."""
        objects = yield from already_tracked(stream, frame, (one.mask_hw for one in found))
        fresh = [i for i in range(len(found)) if i not in objects]
        room = free_slots(self._context, stream)
        prompted: dict[int, Prompted] = {}
        for i in fresh[:room]:
            prompt = Prompt(mask_hw=found[i].mask_hw)
            prompted[i] = self._context.prompted(frame, prompt)
            yield
        room = free_slots(self._context, stream)  # by now
        for i, (memory, mask) in list(prompted.items())[:room]:
            objects[i] = self._context.objects.start(stream, frame, memory, mask)
        return objects


def _prompt(args: requests.SegmentPrompt, frame: Frame) -> Prompt:
    """The marks; none where a candidate is asked for again as it is."""
    if args.ref is None:
        return prompt_of(args, frame.size_wh)
    if args.points or args.box or args.mask:
        return prompt_of(args, frame.size_wh, correction=True)
    return Prompt()
