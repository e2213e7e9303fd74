"""One function per operation: Python arguments in, a typed request out. `tracker.client` makes methods of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack

from msgspec import Struct, structs

from tracker.client.marks import wire_box, wire_fields
from tracker.client.options import (
    AddOptions,
    RefineOptions,
    SegmentAllOptions,
    SegmentOptions,
    SimilarOptions,
    UpdateOptions,
    WatchOptions,
)
from tracker.config import StreamConfig, ZoneConfig
from tracker.protocol import look_replies, look_requests, object_requests, operations, records, replies, requests
from tracker.protocol.fields import ImageFormat

R = TypeVar("R", bound=Struct)

SEGMENT_ALL_S = 600.0
DESCRIBE_S = 120.0


@dataclass(frozen=True, slots=True)
class Request(Generic[R]):
    """A request, and the record that answers it."""

    operation: operations.Operation[Any, R]
    args: Struct
    id: str | None = None
    timeout_s: float | None = None  # None: the client's own


def info() -> Request[replies.ServerInfo]:
    """Name, version, model and limits of the daemon."""
    return Request(operations.SERVER_INFO, requests.ServerInfoArgs())


def note(name: str, message: str | None) -> Request[replies.Empty]:
    """Have the daemon tell people what a program beside it has to say; None: it is well again."""
    return Request(operations.SERVER_NOTE, requests.ServerNote(name=name, message=message))


def streams() -> Request[replies.StreamList]:
    """Every stream's record."""
    return Request(operations.STREAMS_LIST, requests.StreamsListArgs())


def add_stream(
    stream: str,
    config: StreamConfig,
    *,
    first_frame: int = 0,
    epoch: int = 0,
    first_object: int = 1,
    owner: str | None = None,
) -> Request[records.StreamRecord]:
    """Open a source that the daemon's `control.allow_sources` admits. One that comes from another daemon counts on
    from `first_frame`, `epoch` and `first_object`; `owner` stands in all its messages."""
    args = requests.StreamsAdd(
        stream=stream,
        first_frame=first_frame,
        epoch=epoch,
        first_object=first_object,
        owner=owner,
        **structs.asdict(config),
    )
    return Request(operations.STREAMS_ADD, args)


def remove_stream(stream: str) -> Request[records.StreamRecord]:
    """Close a stream and forget its objects."""
    return Request(operations.STREAMS_REMOVE, requests.StreamName(stream=stream))


def pause_stream(stream: str) -> Request[records.StreamRecord]:
    """Stop reading a source until it is resumed."""
    return Request(operations.STREAMS_PAUSE, requests.StreamName(stream=stream))


def resume_stream(stream: str) -> Request[records.StreamRecord]:
    """Read a paused source again."""
    return Request(operations.STREAMS_RESUME, requests.StreamName(stream=stream))


def snapshot(
    stream: str,
    frame: int | None = None,
    format: ImageFormat = "jpeg",
    max_width: int | None = None,
    overlay: bool = False,
    pin_s: float | None = None,
) -> Request[replies.FrameImage]:
    """A buffered frame as an image file's bytes; the newest unless `frame` names another.

    With `pin_s` the daemon keeps the frame for so many seconds (at most 120), so that a prompt can name it.
    """
    args = requests.FramesGet(
        stream=stream, frame=frame, format=format, max_width=max_width, overlay=overlay, pin_s=pin_s
    )
    return Request(operations.FRAMES_GET, args)


def add(stream: str, **options: Unpack[AddOptions]) -> Request[replies.AddedObject]:
    """Track a new object, marked by points, a box, both, or a mask."""
    return Request(operations.OBJECTS_ADD, object_requests.ObjectsAdd(stream=stream, **wire_fields(options)))


def add_many(
    stream: str,
    detections: Sequence[object_requests.Detection],
    frame: int | None = None,
    time: float | None = None,
    match_iou: float = 0.5,
) -> Request[replies.AddedMany]:
    """Give a detector's boxes: those that match tracked objects are reported, the others are added."""
    checked = [
        structs.replace(detection, box=wire_box(detection.box, f"detections[{i}].box"))
        for i, detection in enumerate(detections)
    ]
    args = object_requests.ObjectsAddMany(
        stream=stream, detections=checked, frame=frame, time=time, match_iou=match_iou
    )
    return Request(operations.OBJECTS_ADD_MANY, args)


def refine(stream: str, object: int, **options: Unpack[RefineOptions]) -> Request[replies.ObjectResult]:
    """Correct an object on a frame by further points, a box or a mask."""
    args = object_requests.ObjectsRefine(stream=stream, object=object, **wire_fields(options))
    return Request(operations.OBJECTS_REFINE, args)


def update(stream: str, object: int, **options: Unpack[UpdateOptions]) -> Request[replies.UpdatedObject]:
    """Change an object's label, meta or expiry."""
    return Request(
        operations.OBJECTS_UPDATE,
        object_requests.ObjectsUpdate(stream=stream, object=object, **wire_fields(options)),
    )


def remove(stream: str, object: int | None = None, *, all: bool = False) -> Request[replies.Removed]:
    """Stop tracking one object, or all of a stream's."""
    return Request(operations.OBJECTS_REMOVE, object_requests.ObjectsRemove(stream=stream, object=object, all=all))


def objects(stream: str | None = None, *, all: bool = False) -> Request[replies.ObjectList]:
    """The records of all objects, or of one stream's; with `all` also of those that wait for their stream."""
    return Request(operations.OBJECTS_LIST, object_requests.ObjectsList(stream=stream, all=all))


def export_object(
    stream: str, object: int, token: str | None = None, offset: int = 0
) -> Request[replies.ExportedChunk]:
    """A part of an object's memory, for another daemon; the first reply's token names it for the further ones."""
    args = object_requests.ObjectsExport(stream=stream, object=object, token=token, offset=offset)
    return Request(operations.OBJECTS_EXPORT, args)


def import_object(
    stream: str, record: records.MovedObject, size: int, data: bytes, offset: int = 0
) -> Request[replies.Imported]:
    """Hand over a part of an object's memory, in order; the last one begins to track it."""
    args = object_requests.ObjectsImport(stream=stream, record=record, size=size, data=data, offset=offset)
    return Request(operations.OBJECTS_IMPORT, args)


def segment(stream: str, **options: Unpack[SegmentOptions]) -> Request[replies.Candidates]:
    """Masks of what is marked on a frame, best first; nothing is tracked."""
    return Request(operations.SEGMENT_PROMPT, requests.SegmentPrompt(stream=stream, **wire_fields(options)))


def segment_all(
    stream: str, job: str | None = None, timeout_s: float = SEGMENT_ALL_S, **options: Unpack[SegmentAllOptions]
) -> Request[replies.FoundMasks]:
    """Find everything in a frame. `job` is the id by which it can be cancelled."""
    return Request(operations.SEGMENT_ALL, requests.SegmentAll(stream=stream, **options), job, timeout_s)


def cancel_segment_all(job: str) -> Request[replies.Empty]:
    """End a running `segment_all`."""
    return Request(operations.SEGMENT_CANCEL, requests.SegmentCancel(id=job))


def describe(
    stream: str, object: int, question: str | None = None, timeout_s: float = DESCRIBE_S
) -> Request[replies.DescribedObject]:
    """Have a model say in words what an object is, or answer a question about it."""
    args = object_requests.ObjectsDescribe(stream=stream, object=object, question=question)
    return Request(operations.OBJECTS_DESCRIBE, args, timeout_s=timeout_s)


def similar(**options: Unpack[SimilarOptions]) -> Request[look_replies.SimilarFound]:
    """Where else something was seen: an object (`stream`, `object`), what is marked on a frame of a stream or on a
    picture file's bytes (`picture`), or what a `text` says, where the daemon has CLIP. Best first."""
    return Request(operations.SEARCH_SIMILAR, look_requests.SearchSimilar(**wire_fields(options)))


def watch_for(name: str, **options: Unpack[WatchOptions]) -> Request[look_replies.WatchRecord]:
    """Have `looks_like` told when something on any stream looks like this; what, is said as to `similar`."""
    return Request(operations.WATCH_ADD, look_requests.WatchAdd(name=name, **wire_fields(options)))


def watched() -> Request[look_replies.WatchList]:
    """The looks that are waited for."""
    return Request(operations.WATCH_LIST, look_requests.WatchListArgs())


def stop_watching(watch: int) -> Request[look_replies.WatchRecord]:
    """Wait for a look no longer."""
    return Request(operations.WATCH_REMOVE, look_requests.WatchRemove(watch=watch))


def set_zone(stream: str, zone: str, config: ZoneConfig) -> Request[replies.ZoneRecord]:
    """Count at a polygon or a line from now on; a zone of that name is replaced, and counts from nothing."""
    args = requests.ZonesSet(stream=stream, zone=zone, **structs.asdict(config))
    return Request(operations.ZONES_SET, args)


def remove_zone(stream: str, zone: str) -> Request[replies.ZoneRecord]:
    """Count at a zone no longer."""
    return Request(operations.ZONES_REMOVE, requests.ZonesRemove(stream=stream, zone=zone))


def zones(stream: str | None = None) -> Request[replies.ZoneList]:
    """The zones of all streams, or of one, with their counts."""
    return Request(operations.ZONES_LIST, requests.ZonesList(stream=stream))


def history(
    stream: str | None = None, object: int | None = None, since: float | None = None, limit: int = 100
) -> Request[replies.EventList]:
    """Past events, the newest last."""
    args = requests.HistoryList(stream=stream, object=object, since=since, limit=limit)
    return Request(operations.HISTORY_LIST, args)
