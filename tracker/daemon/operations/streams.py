"""`server.info`, `streams.*` and `frames.get`."""

import os
import time
from collections.abc import Callable

import tracker
from tracker.config import StreamConfig
from tracker.daemon.admission import free_slots
from tracker.daemon.answers import answers
from tracker.daemon.context import Context, frame_of
from tracker.errors import AlreadyExists, AtCapacity, BadRequest, Forbidden
from tracker.images import imaging, overlay
from tracker.labels.check import texts_problem
from tracker.masks.regions import region_problem
from tracker.protocol import replies, requests
from tracker.protocol.operations import (
    FRAMES_GET,
    SERVER_INFO,
    SERVER_NOTE,
    STREAMS_ADD,
    STREAMS_LIST,
    STREAMS_PAUSE,
    STREAMS_REMOVE,
    STREAMS_RESUME,
)
from tracker.streams.allowlist import refusal
from tracker.streams.urls import problems
from tracker.tracking import zones
from tracker.tracking.records import stream_record
from tracker.tracking.state import TrackedObject, TrackedStream
from tracker.types import Frame, ObjectMask


class StreamOperations:
    """`attach` and `detach` are the daemon's, who owns the streams' threads."""

    def __init__(
        self,
        context: Context,
        attach: Callable[[str, StreamConfig, str | None], TrackedStream],
        detach: Callable[[TrackedStream], None],
    ) -> None:
        self._context = context
        self._attach = attach
        self._detach = detach

    @answers(SERVER_INFO)
    def server_info(self, _: requests.ServerInfoArgs) -> replies.ServerInfo:
        table, limits = self._context.table, self._context.config.engine
        free = [free_slots(self._context, stream) for stream in table] or [
            limits.max_objects - table.object_count()
        ]
        return replies.ServerInfo(
            name="tracker",
            version=tracker.__version__,
            pid=os.getpid(),
            uptime_s=(time.monotonic_ns() - self._context.started_ns) / 1e9,
            model=replies.ModelInfo(**self._context.engine.describe()),
            limits=replies.Limits(
                objects=limits.max_objects,
                objects_free=min(free),  # on whichever stream
                history_frames=limits.history_frames,
            ),
            publish=self._context.publisher.endpoint,
            notes=dict(self._context.events.notes),
        )

    @answers(SERVER_NOTE)
    def server_note(self, args: requests.ServerNote) -> replies.Empty:
        events = self._context.events
        if events.note(args.name, args.message):
            text = f"{args.name}: {args.message or 'well again'}"
            for stream in self._context.table:
                newest = stream.source.decoded - 1 if stream.source.decoded else None
                events.of_stream(stream.source, "note", newest, message=text)
        return replies.Empty()

    @answers(STREAMS_LIST)
    def streams_list(self, _: requests.StreamsListArgs) -> replies.StreamList:
        return replies.StreamList(streams=[stream_record(stream) for stream in self._context.table])

    @answers(STREAMS_ADD)
    def streams_add(self, args: requests.StreamsAdd) -> replies.StreamRecord:
        if args.stream in self._context.table:
            raise AlreadyExists(
                f"stream: {args.stream!r} is there already; remove it first, or choose another name"
            )
        most = self._context.config.limits.streams
        if len(self._context.table) >= most:
            raise AtCapacity(f"stream: there are {most} already (limits.streams); remove one first")
        if (why_not := refusal(args.config(), self._context.config.control)) is not None:
            raise Forbidden(why_not)
        if wrong := problems(args.config()):
            raise BadRequest(wrong[0])
        if (why_not := texts_problem(args.labels or [], self._context.config.labels)) is not None:
            raise BadRequest(f"labels: {why_not}")
        for name, zone in args.zones.items():
            if (why_not := region_problem(zone.vertices)) is not None:
                raise BadRequest(f"zones.{name}.{why_not}")
        self._context.table.go_on_beyond(args.stream, args.first_frame, args.epoch)
        stream = self._attach(args.stream, args.config(), args.owner)
        stream.first_object = args.first_object
        return stream_record(stream)

    @answers(STREAMS_REMOVE)
    def streams_remove(self, args: requests.StreamName) -> replies.StreamRecord:
        stream = self._context.table.stream(args.stream)
        record = stream_record(stream)
        self._detach(stream)
        return record

    @answers(STREAMS_PAUSE)
    def streams_pause(self, args: requests.StreamName) -> replies.StreamRecord:
        stream = self._context.table.stream(args.stream)
        stream.source.pause()
        return stream_record(stream)

    @answers(STREAMS_RESUME)
    def streams_resume(self, args: requests.StreamName) -> replies.StreamRecord:
        stream = self._context.table.stream(args.stream)
        stream.source.resume()
        return stream_record(stream)

    @answers(FRAMES_GET)
    def frames_get(self, args: requests.FramesGet) -> replies.FrameImage:
        stream = self._context.table.stream(args.stream)
        followed = args.overlay and args.frame is None and stream.processed in stream.source.buffer
        frame = frame_of(stream, stream.processed if followed else args.frame)
        rgb_hwc = imaging.to_rgb(frame.image)
        if args.pin_s is not None:
            stream.source.buffer.pin(frame.index, args.pin_s, time.monotonic_ns())
        if args.overlay:
            known = [(obj, mask_on(obj, frame.index)) for obj in stream.objects.values()]
            drawings = [self._drawing(obj, mask, frame) for obj, mask in known if mask is not None]
            drawn = [_zone_drawing(record, frame.size_wh) for record in self._context.zones.records(stream.name)]
            rgb_hwc = overlay.draw(rgb_hwc, drawings, drawn)
        data = imaging.encode(
            imaging.scaled(rgb_hwc, args.max_width), args.format, self._context.config.publish.jpeg_quality
        )
        return replies.FrameImage(
            stream=stream.name,
            frame=frame.index,
            time=frame.time,
            size=frame.size_wh,
            format=args.format,
            data=data,
        )

    def _drawing(self, obj: TrackedObject, mask: ObjectMask, frame: Frame) -> overlay.Drawing:
        shape = self._context.shape_options.shape(mask, frame.size_wh)
        guessed = obj.guess.label if obj.guess else None
        return overlay.Drawing.of(obj.id, shape, obj.label or guessed, mask.score)


def _zone_drawing(record: replies.ZoneRecord, size_wh: tuple[int, int]) -> overlay.ZoneDrawing:
    vertices_px = zones.vertices_px(record.settings, size_wh)
    return overlay.ZoneDrawing(record.zone, vertices_px, zones.count_text(record.counts))


def mask_on(obj: TrackedObject, frame: int) -> ObjectMask | None:
    """The object's mask on that very frame, if it was tracked there lately, or prompted."""
    if obj.frame == frame:
        return obj.mask
    prompted_frame, prompted_mask = obj.prompted
    if prompted_frame == frame:
        return prompted_mask
    entry = obj.memory.find(frame)
    if entry is None or entry.logits_hw is None:
        return None
    return ObjectMask(entry.logits_hw.cpu().numpy(), entry.score, entry.presence)
