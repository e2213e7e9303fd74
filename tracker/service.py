"""What the daemon does on request, one method per operation. All of it runs on the engine thread, between two
steps; everything is checked before anything changes."""

import os
import time
from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Struct, structs

import tracker
from tracker import imaging, overlay
from tracker import protocol as p
from tracker.config import Config, StreamConfig
from tracker.engine.engine import Engine
from tracker.engine.track import Track
from tracker.errors import AlreadyExists, AtCapacity, Forbidden, FrameGone, NoObject
from tracker.objects import Lane, TrackedObject, World
from tracker.prompts import prompt_of
from tracker.publisher import Publisher
from tracker.records import Look, Seen, object_event, object_record, stream_record
from tracker.scheduler import frames_behind
from tracker.source.allow import refusal
from tracker.types import Frame, ObjectMask, Prompt


class Service:
    """The operations over the streams and objects of a `World`."""

    def __init__(
        self,
        config: Config,
        world: World,
        engine: Engine,
        publisher: Publisher,
        attach: Callable[[str, StreamConfig], Lane],
        detach: Callable[[Lane], None],
    ) -> None:
        self._config = config
        self._attach = attach
        self._detach = detach
        self._world = world
        self._engine = engine
        self._publisher = publisher
        self._started_ns = time.monotonic_ns()
        self._look = Look(config.publish.outline_tolerance_px, rle=config.publish.masks == "rle")
        self.operations: dict[str, Callable[[Any], Struct]] = {
            "server.info": self.server_info,
            "streams.list": self.streams_list,
            "streams.add": self.streams_add,
            "streams.remove": self.streams_remove,
            "streams.pause": self.streams_pause,
            "streams.resume": self.streams_resume,
            "frames.get": self.frames_get,
            "objects.add": self.objects_add,
            "objects.refine": self.objects_refine,
            "objects.update": self.objects_update,
            "objects.remove": self.objects_remove,
            "objects.list": self.objects_list,
        }

    # ------------------------------------------------------------------------------------- server and streams

    def server_info(self, _: p.ServerInfoArgs) -> p.ServerInfo:
        limit = self._config.engine.max_objects
        return p.ServerInfo(
            name="tracker",
            version=tracker.__version__,
            pid=os.getpid(),
            uptime_s=(time.monotonic_ns() - self._started_ns) / 1e9,
            model=p.ModelInfo(**self._engine.describe()),
            limits=p.Limits(
                objects=limit,
                objects_free=limit - self._world.object_count(),
                history_frames=self._config.engine.history_frames,
            ),
            publish=self._publisher.endpoint,
        )

    def streams_list(self, _: p.StreamsListArgs) -> p.StreamList:
        return p.StreamList(streams=[stream_record(lane) for lane in self._world])

    def streams_add(self, args: p.StreamsAdd) -> p.StreamRecord:
        if args.stream in self._world:
            raise AlreadyExists(
                f"stream: {args.stream!r} is there already; remove it first, or choose another name"
            )
        if (why_not := refusal(args.config(), self._config.control.allow_sources)) is not None:
            raise Forbidden(why_not)
        return stream_record(self._attach(args.stream, args.config()))

    def streams_remove(self, args: p.StreamName) -> p.StreamRecord:
        lane = self._world.lane(args.stream)
        record = stream_record(lane)
        self._detach(lane)
        return record

    def streams_pause(self, args: p.StreamName) -> p.StreamRecord:
        lane = self._world.lane(args.stream)
        lane.stream.pause()
        return stream_record(lane)

    def streams_resume(self, args: p.StreamName) -> p.StreamRecord:
        lane = self._world.lane(args.stream)
        lane.stream.resume()
        return stream_record(lane)

    def frames_get(self, args: p.FramesGet) -> p.FrameImage:
        lane = self._world.lane(args.stream)
        newest_tracked = lane.processed if args.overlay and lane.processed >= 0 else None
        frame = _frame(lane, newest_tracked if args.frame is None else args.frame)
        rgb_hwc = imaging.to_rgb(frame.image)
        if args.overlay:
            objects = [obj for obj in lane.objects.values() if obj.frame == frame.index and not obj.pending]
            rgb_hwc = overlay.draw(rgb_hwc, [self._drawing(obj) for obj in objects])
        data = imaging.encode(
            imaging.scaled(rgb_hwc, args.max_width), args.format, self._config.publish.jpeg_quality
        )
        return p.FrameImage(
            stream=lane.name, frame=frame.index, time=frame.time, size=frame.size_wh, format=args.format, data=data
        )

    # ------------------------------------------------------------------------------------------------ objects

    def objects_add(self, args: p.ObjectsAdd) -> p.ObjectResult:
        lane = self._world.lane(args.stream)
        limit = self._config.engine.max_objects
        if self._world.object_count() >= limit:
            raise AtCapacity(f"{limit} objects are tracked, which is engine.max_objects; remove one first")
        object_id = lane.claim_id(args.object)
        frame = _frame(lane, args.frame, args.time)
        track, mask = self._prompted(Track(), frame, prompt_of(args, frame.size_wh))
        obj = TrackedObject(
            object_id, lane, track, mask, frame.index, frame.size_wh, args.label, args.meta, args.expire_s
        )
        result = self._result(obj, frame, mask)
        lane.add(obj)
        obj.pending = bool(frames_behind(obj))
        self._tell(obj, "object_added")
        return result

    def objects_refine(self, args: p.ObjectsRefine) -> p.ObjectResult:
        lane = self._world.lane(args.stream)
        obj = lane.object(args.object)
        frame = _frame(lane, args.frame)
        track, mask = self._prompted(self._led_to(obj, frame), frame, prompt_of(args, frame.size_wh))
        result = self._result(obj, frame, mask)
        obj.saw(frame, track, mask)
        obj.pending = bool(frames_behind(obj))
        self._tell(obj, "object_refined")
        return result

    def objects_update(self, args: p.ObjectsUpdate) -> p.ObjectEntry:
        obj = self._world.lane(args.stream).object(args.object)
        for name in ("label", "meta", "expire_s"):
            if (value := getattr(args, name)) is not UNSET:
                setattr(obj, name, value)
        return self._entry(obj)

    def objects_remove(self, args: p.ObjectsRemove) -> p.Removed:
        lane = self._world.lane(args.stream)
        gone = list(lane.objects.values()) if args.object is None else [lane.object(args.object)]
        for obj in gone:
            self.remove(obj, "object_removed")
        return p.Removed(removed=[obj.id for obj in gone])

    def objects_list(self, args: p.ObjectsList) -> p.ObjectList:
        lanes = list(self._world) if args.stream is None else [self._world.lane(args.stream)]
        return p.ObjectList(objects=[self._entry(obj) for lane in lanes for obj in lane.objects.values()])

    def remove(self, obj: TrackedObject, why: p.EventName) -> None:
        """Stop following an object, and say why: `object_removed` or `object_expired`."""
        obj.lane.remove(obj)
        self._tell(obj, why)

    # ------------------------------------------------------------------------------------------------ helpers

    def _prompted(self, track: Track, frame: Frame, prompt: Prompt) -> tuple[Track, ObjectMask]:
        features = self._engine.encode([frame.image])
        return self._engine.prompt(track, features, 0, frame.index, prompt, frame.size_wh)

    def _led_to(self, obj: TrackedObject, frame: Frame) -> Track:
        """The object's memory as it is right on `frame`: tracked there first if it was not yet."""
        if obj.track.find(frame.index) is not None and frame.index in obj.track.frames:
            return obj.track.rewind(frame.index)
        if frame.index < obj.track.frames[0]:
            raise FrameGone(
                f"frame: {frame.index} is older than what object {obj.id} can be corrected on; "
                f"it keeps frames {obj.track.frames[0]} to {obj.track.frames[-1]} (engine.history_frames)"
            )
        features = self._engine.encode([frame.image])
        ((track, _),) = self._engine.propagate([(obj.track.rewind(frame.index), 0, frame.index)], features)
        return track

    def _result(self, obj: TrackedObject, frame: Frame, mask: ObjectMask) -> p.ObjectResult:
        """The reply to a prompt that gave `mask`. Raises NoObject where that is empty."""
        shape = self._look.shape(mask, frame.size_wh)
        if shape.area == 0:
            raise NoObject("the prompt gave an empty mask; click on the object itself, or draw a box around it")
        record = object_record(Seen(obj, mask, obj.age, None), shape)
        return p.ObjectResult(
            **structs.asdict(record), stream=obj.lane.name, frame=frame.index, epoch=frame.epoch, durable=False
        )

    def _entry(self, obj: TrackedObject) -> p.ObjectEntry:
        record = object_record(Seen.of(obj), self._look.shape(obj.mask, obj.size_wh))
        return p.ObjectEntry(**structs.asdict(record), stream=obj.lane.name, frame=obj.frame)

    def _drawing(self, obj: TrackedObject) -> overlay.Drawing:
        shape = self._look.shape(obj.mask, obj.size_wh)
        return overlay.Drawing.of(obj.id, shape, obj.label, obj.mask.score)

    def _tell(self, obj: TrackedObject, what: p.EventName) -> None:
        self._publisher.publish(f"events/{obj.lane.name}/", object_event(obj, what, obj.frame))


def _frame(lane: Lane, index: int | None, time_s: float | None = None) -> Frame:
    """The buffered frame that a request names; the newest if it names none. Raises NoFrame, FrameGone."""
    buffer = lane.stream.buffer
    if index is not None:
        return buffer.get(index)
    return buffer.newest() if time_s is None else buffer.nearest(time_s)
