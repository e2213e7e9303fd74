"""`server.info`, `server.note` and `streams.*`."""

import os
import time
from collections.abc import Callable

import tracker
from tracker.config import StreamConfig
from tracker.daemon.admission import free_slots
from tracker.daemon.answers import answers
from tracker.daemon.context import Context
from tracker.errors import AlreadyExists, AtCapacity, BadRequest, Forbidden
from tracker.labels.check import texts_problem
from tracker.masks.regions import region_problem
from tracker.protocol import records, replies, requests
from tracker.protocol.operations import (
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
from tracker.tracking.records import stream_record
from tracker.tracking.state import TrackedStream


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
    def streams_add(self, args: requests.StreamsAdd) -> records.StreamRecord:
        if args.stream in self._context.table:
            raise AlreadyExists(
                f"stream: {args.stream!r} is there already; remove it first, or choose another name"
            )
        most = self._context.config.limits.streams
        if len(self._context.table) >= most:
            raise AtCapacity(f"stream: {most} streams are there (limits.streams); remove one first")
        if (why_not := refusal(args.config(), self._context.config.control)) is not None:
            raise Forbidden(why_not)
        if wrong := problems(args.config()):
            raise BadRequest(wrong[0])
        if (why_not := texts_problem(args.labels or [], self._context.config.labels)) is not None:
            raise BadRequest(f"labels: {why_not}")
        for name, zone in args.zones.items():
            if (why_not := region_problem(zone.vertices)) is not None:
                raise BadRequest(f"zones.{name}.{why_not}")
        self._context.table.go_on_beyond(args.stream, args.first_frame, args.epoch, args.first_object)
        return stream_record(self._attach(args.stream, args.config(), args.owner))

    @answers(STREAMS_REMOVE)
    def streams_remove(self, args: requests.StreamName) -> records.StreamRecord:
        stream = self._context.table.stream(args.stream)
        record = stream_record(stream)
        self._detach(stream)
        return record

    @answers(STREAMS_PAUSE)
    def streams_pause(self, args: requests.StreamName) -> records.StreamRecord:
        stream = self._context.table.stream(args.stream)
        stream.source.pause()
        self._context.persistence.stream_changed(stream)
        return stream_record(stream)

    @answers(STREAMS_RESUME)
    def streams_resume(self, args: requests.StreamName) -> records.StreamRecord:
        stream = self._context.table.stream(args.stream)
        stream.source.resume()
        self._context.persistence.stream_changed(stream)
        return stream_record(stream)
