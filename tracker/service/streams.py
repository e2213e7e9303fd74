"""`server.info`, `streams.*` and `frames.get`."""

import os
import time
from collections.abc import Callable

import tracker
from tracker import imaging, overlay
from tracker import protocol as p
from tracker.config import StreamConfig
from tracker.errors import AlreadyExists, BadRequest, Forbidden
from tracker.labels.check import texts_problem
from tracker.objects import Lane, TrackedObject
from tracker.records import stream_record
from tracker.service.admission import room
from tracker.service.context import Context, Operations, frame_of
from tracker.source.allow import refusal


class StreamOperations:
    """`attach` and `detach` are the daemon's, who owns the streams' threads."""

    def __init__(
        self, context: Context, attach: Callable[[str, StreamConfig], Lane], detach: Callable[[Lane], None]
    ) -> None:
        self._context = context
        self._attach = attach
        self._detach = detach

    @property
    def table(self) -> Operations:
        return {
            "server.info": self.server_info,
            "streams.list": self.streams_list,
            "streams.add": self.streams_add,
            "streams.remove": self.streams_remove,
            "streams.pause": self.streams_pause,
            "streams.resume": self.streams_resume,
            "frames.get": self.frames_get,
        }

    def server_info(self, _: p.ServerInfoArgs) -> p.ServerInfo:
        world, limits = self._context.world, self._context.config.engine
        free = [room(self._context, lane) for lane in world] or [limits.max_objects - world.object_count()]
        return p.ServerInfo(
            name="tracker",
            version=tracker.__version__,
            pid=os.getpid(),
            uptime_s=(time.monotonic_ns() - self._context.started_ns) / 1e9,
            model=p.ModelInfo(**self._context.engine.describe()),
            limits=p.Limits(
                objects=limits.max_objects,
                objects_free=min(free),  # on whichever stream
                history_frames=limits.history_frames,
            ),
            publish=self._context.publisher.endpoint,
        )

    def streams_list(self, _: p.StreamsListArgs) -> p.StreamList:
        return p.StreamList(streams=[stream_record(lane) for lane in self._context.world])

    def streams_add(self, args: p.StreamsAdd) -> p.StreamRecord:
        if args.stream in self._context.world:
            raise AlreadyExists(
                f"stream: {args.stream!r} is there already; remove it first, or choose another name"
            )
        if (why_not := refusal(args.config(), self._context.config.control.allow_sources)) is not None:
            raise Forbidden(why_not)
        if (why_not := texts_problem(args.labels or [], self._context.config.labels)) is not None:
            raise BadRequest(f"labels: {why_not}")
        return stream_record(self._attach(args.stream, args.config()))

    def streams_remove(self, args: p.StreamName) -> p.StreamRecord:
        lane = self._context.world.lane(args.stream)
        record = stream_record(lane)
        self._detach(lane)
        return record

    def streams_pause(self, args: p.StreamName) -> p.StreamRecord:
        lane = self._context.world.lane(args.stream)
        lane.stream.pause()
        return stream_record(lane)

    def streams_resume(self, args: p.StreamName) -> p.StreamRecord:
        lane = self._context.world.lane(args.stream)
        lane.stream.resume()
        return stream_record(lane)

    def frames_get(self, args: p.FramesGet) -> p.FrameImage:
        lane = self._context.world.lane(args.stream)
        tracked = args.overlay and args.frame is None and lane.processed in lane.stream.buffer
        frame = frame_of(lane, lane.processed if tracked else args.frame)
        rgb_hwc = imaging.to_rgb(frame.image)
        if args.overlay:
            objects = [obj for obj in lane.objects.values() if obj.frame == frame.index and not obj.pending]
            rgb_hwc = overlay.draw(rgb_hwc, [self._drawing(obj) for obj in objects])
        data = imaging.encode(
            imaging.scaled(rgb_hwc, args.max_width), args.format, self._context.config.publish.jpeg_quality
        )
        return p.FrameImage(
            stream=lane.name, frame=frame.index, time=frame.time, size=frame.size_wh, format=args.format, data=data
        )

    def _drawing(self, obj: TrackedObject) -> overlay.Drawing:
        shape = self._context.look.shape(obj.mask, obj.size_wh)
        guessed = obj.guess.label if obj.guess else None
        return overlay.Drawing.of(obj.id, shape, obj.label or guessed, obj.mask.score)
