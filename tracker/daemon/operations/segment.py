"""`segment.*`: masks on any buffered frame, without tracking anything, unless that is asked for."""

from collections.abc import Callable, Generator
from typing import Any

from msgspec import UNSET, structs

from tracker.daemon.admission import free_slots
from tracker.daemon.answers import answers, answers_in_slices
from tracker.daemon.context import Context, frame_of
from tracker.daemon.matching import SAME_IOU, matched, near, small, small_mask
from tracker.engine import automatic
from tracker.engine.memory import ObjectMemory
from tracker.engine.segmenter import Candidate, Segmenter
from tracker.images import imaging
from tracker.masks.geometry import shape_of, shape_of_mask
from tracker.protocol import replies, requests
from tracker.protocol.operations import SEGMENT_ALL, SEGMENT_CANCEL, SEGMENT_PROMPT
from tracker.protocol.prompts import prompt_of
from tracker.tracking.jobs import Slices
from tracker.tracking.state import TrackedObject, TrackedStream
from tracker.types import Bool, Frame, ObjectMask, Prompt


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
        only_ref = args.ref is not None and not (args.points or args.box or args.mask)
        prompt = Prompt() if only_ref else prompt_of(args, frame.size_wh, correction=args.ref is not None)
        key = stream.name, frame.index
        found = self._segmenter.candidates(key, frame.image, prompt, ref=args.ref, multimask=args.multimask)
        return replies.Candidates(
            stream=stream.name, frame=frame.index, candidates=[self._candidate(c, frame) for c in found]
        )

    @answers(SEGMENT_CANCEL)
    def segment_cancel(self, args: requests.SegmentCancel) -> replies.Empty:
        self._cancel(args.id)
        return replies.Empty()

    @answers_in_slices(SEGMENT_ALL)
    def segment_all(self, args: requests.SegmentAll, request_id: Any) -> Slices[replies.FoundMasks]:
        """A slice for each batch of points."""
        stream = self._context.table.stream(args.stream)
        frame = frame_of(stream, args.frame)
        found: tuple[automatic.Found, ...] = ()
        rgb_hwc = imaging.to_rgb(frame.image)
        for progress in automatic.search(self._context.engine, rgb_hwc, args, automatic.SLICE_S):
            found = progress.found or ()
            counts = {"id": request_id, "done": progress.done, "total": progress.total}
            self._context.events.of_stream(stream.source, "segment_progress", frame.index, **counts)
            yield
        best = sorted(found, key=lambda f: -f.score)[: args.max_masks]
        masks = automatic.exclusive(best) if args.exclusive else [(f, f.mask_hw) for f in best]
        records = []
        for f, mask_hw in masks:
            records.append(self._found(f, mask_hw))
            yield
        if args.track:
            objects = yield from self._track(stream, frame, [mask_hw for _, mask_hw in masks])
            records = [
                structs.replace(record, object=objects[i].id) if i in objects else record
                for i, record in enumerate(records)
            ]
        durable = False if args.track else UNSET
        return replies.FoundMasks(stream=stream.name, frame=frame.index, masks=records, durable=durable)

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

    def _found(self, found: automatic.Found, mask_hw: Bool) -> replies.FoundMask:
        shape = shape_of_mask(mask_hw, tolerance_px=self._context.config.publish.outline_tolerance_px)
        assert shape.box_xyxy is not None  # the search gives no empty masks
        return replies.FoundMask(
            score=round(found.score, 4),
            stability=round(found.stability, 4),
            box=shape.box_xyxy,
            area=shape.area,
            outline=shape.outline,
        )

    def _track(
        self, stream: TrackedStream, frame: Frame, masks: list[Bool]
    ) -> Generator[None, None, dict[int, TrackedObject]]:
        """Follow what was found, as far as there is room; what is tracked already stays what it is. Nothing is
        followed before everything was prompted, so that a search that is cancelled changes nothing."""
        followed = list(stream.objects.values())
        known = matched([small_mask(m) for m in masks], [small(near(obj, frame)) for obj in followed], SAME_IOU)
        objects = {i: followed[j] for i, (j, _) in known.items()}
        features = self._context.features(frame)
        prompted: dict[int, tuple[ObjectMemory, ObjectMask]] = {}
        for i in [i for i in range(len(masks)) if i not in known][: free_slots(self._context, stream)]:
            prompt = Prompt(mask_hw=masks[i])
            prompted[i] = self._context.engine.prompt(
                ObjectMemory(), features, 0, frame.index, prompt, frame.size_wh
            )
            yield
        for i in list(prompted)[: free_slots(self._context, stream)]:
            objects[i] = self._context.objects.start(stream, frame, *prompted[i])
        return objects
