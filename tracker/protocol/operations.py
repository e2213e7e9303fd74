"""Every operation once: its name, what it takes, what it answers. All tables are derived from these.

The daemon's methods say with `answers` (in `tracker.daemon.answers`) which operation they are, and the client's
functions build a request of one; both are checked against the types here.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import Struct

from tracker.protocol import look_replies, look_requests, object_requests, records, replies, requests

A = TypeVar("A", bound=Struct)
R = TypeVar("R", bound=Struct)


@dataclass(frozen=True, slots=True)
class Operation(Generic[A, R]):
    name: str
    args: type[A]
    reply: type[R]
    reads: bool  # and changes nothing: it may be asked again where no reply came


OPERATIONS: dict[str, Operation[Any, Any]] = {}


def _operation(name: str, args: type[A], reply: type[R], *, reads: bool = False) -> Operation[A, R]:
    OPERATIONS[name] = Operation(name, args, reply, reads)
    return OPERATIONS[name]


SERVER_INFO = _operation("server.info", requests.ServerInfoArgs, replies.ServerInfo, reads=True)
SERVER_NOTE = _operation("server.note", requests.ServerNote, replies.Empty)
STREAMS_LIST = _operation("streams.list", requests.StreamsListArgs, replies.StreamList, reads=True)
STREAMS_ADD = _operation("streams.add", requests.StreamsAdd, records.StreamRecord)
STREAMS_REMOVE = _operation("streams.remove", requests.StreamName, records.StreamRecord)
STREAMS_PAUSE = _operation("streams.pause", requests.StreamName, records.StreamRecord)
STREAMS_RESUME = _operation("streams.resume", requests.StreamName, records.StreamRecord)
FRAMES_GET = _operation("frames.get", requests.FramesGet, replies.FrameImage, reads=True)
OBJECTS_ADD = _operation("objects.add", object_requests.ObjectsAdd, replies.AddedObject)
OBJECTS_ADD_MANY = _operation("objects.add_many", object_requests.ObjectsAddMany, replies.AddedMany)
OBJECTS_REFINE = _operation("objects.refine", object_requests.ObjectsRefine, replies.ObjectResult)
OBJECTS_UPDATE = _operation("objects.update", object_requests.ObjectsUpdate, replies.UpdatedObject)
OBJECTS_REMOVE = _operation("objects.remove", object_requests.ObjectsRemove, replies.Removed)
OBJECTS_LIST = _operation("objects.list", object_requests.ObjectsList, replies.ObjectList, reads=True)
OBJECTS_EXPORT = _operation("objects.export", object_requests.ObjectsExport, replies.ExportedChunk)
OBJECTS_IMPORT = _operation("objects.import", object_requests.ObjectsImport, replies.Imported)
SEGMENT_PROMPT = _operation("segment.prompt", requests.SegmentPrompt, replies.Candidates, reads=True)
SEGMENT_ALL = _operation("segment.all", requests.SegmentAll, replies.FoundMasks, reads=True)
SEGMENT_CANCEL = _operation("segment.cancel", requests.SegmentCancel, replies.Empty)
OBJECTS_DESCRIBE = _operation("objects.describe", object_requests.ObjectsDescribe, replies.DescribedObject)
SEARCH_SIMILAR = _operation("search.similar", look_requests.SearchSimilar, look_replies.SimilarFound, reads=True)
WATCH_ADD = _operation("watch.add", look_requests.WatchAdd, look_replies.WatchRecord)
WATCH_LIST = _operation("watch.list", look_requests.WatchListArgs, look_replies.WatchList, reads=True)
WATCH_REMOVE = _operation("watch.remove", look_requests.WatchRemove, look_replies.WatchRecord)
ZONES_SET = _operation("zones.set", requests.ZonesSet, replies.ZoneRecord)
ZONES_REMOVE = _operation("zones.remove", requests.ZonesRemove, replies.ZoneRecord)
ZONES_LIST = _operation("zones.list", requests.ZonesList, replies.ZoneList, reads=True)
HISTORY_LIST = _operation("history.list", requests.HistoryList, replies.EventList, reads=True)
