"""A control and a publish socket with a small handler where the daemon would be."""

import queue
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

from tracker.config import ZoneConfig
from tracker.protocol import look_replies, messages, records, replies
from tracker.protocol.operations import OPERATIONS
from tracker.sockets.control import ControlServer
from tracker.sockets.publisher import Publisher
from tracker.sockets.request import Request

STREAM = records.StreamRecord(stream="cam1", url="rtsp://cam1.local/live", state="live", size=(64, 48))
OBJECT = records.ObjectRecord(object=7, state="visible", box=(1, 2, 3, 4), area=4)
ENTRY = replies.ObjectEntry(**structs.asdict(OBJECT), stream="cam1", frame=5)
HIT = look_replies.SimilarHit(
    stream="cam2",
    object=4,
    frame=9,
    time=1.0,
    box=(1, 2, 3, 4),
    label="cat",
    score=0.93,
    thumbnail=b"\xff\xd8",
    kind="appearance",
)
DESCRIBED = replies.DescribedObject(stream="cam1", object=7, text="A cat.", model="m", time=1.0)
WATCHED = look_replies.WatchRecord(watch=3, name="truck", threshold=0.9, time=1.0, thumbnail=b"", durable=True)
ZONE = replies.ZoneRecord(
    stream="cam1",
    zone="gate",
    settings=ZoneConfig(line=((0, 0), (9, 9))),
    counts=records.ZoneCounts(to_left=2, to_right=1),
)
MOVED = records.MovedObject(
    object=7, frame=5, size_wh=(64, 48), label=None, meta={}, expire_s=None, age=3, lost_for_s=None
)
ADDED = replies.AddedObject(**structs.asdict(ENTRY), epoch=0, durable=True)
RESULT = replies.ObjectResult(**structs.asdict(ENTRY), epoch=0, durable=True)
MODEL = replies.ModelInfo(name="nano", image_size=256, device="cpu", dtype="float32", sha256=None)
LIMITS = replies.Limits(objects=8, objects_free=7, history_frames=32)


def tracks(
    frame: int, stream: str = "cam1", objects: Sequence[records.ObjectRecord] = (OBJECT,), **more: Any
) -> messages.Tracks:
    """Its message of a frame."""
    about = {"size": (64, 48), "time": 1.0, "mono_ns": 1, **more}
    return messages.Tracks(
        stream=stream,
        frame=frame,
        step=frame,
        epoch=0,
        pts=None,
        camera_time=None,
        dropped=0,
        objects=list(objects),
        **about,
    )


class FakeDaemon:
    """The edge that is replaced: answers every operation from a table, and keeps what it was asked."""

    def __init__(
        self, instance: str = "i1", control: str = "tcp://127.0.0.1:*", publish: str = "tcp://127.0.0.1:*"
    ) -> None:
        self.asked: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.on_request: Callable[[Request], object] = self.asked.put
        self.publisher = Publisher(publish, 100, instance)
        self.publisher.start()
        self.answers: dict[str, Any] = {
            "server.info": replies.ServerInfo(
                name="tracker",
                version="0",
                pid=1,
                uptime_s=1.5,
                model=MODEL,
                limits=LIMITS,
                publish=self.publisher.endpoint,
            ),
            "server.note": replies.Empty(),
            "streams.list": replies.StreamList(streams=[STREAM]),
            "streams.add": STREAM,
            "streams.remove": STREAM,
            "streams.pause": STREAM,
            "streams.resume": STREAM,
            "frames.get": replies.FrameImage(
                stream="cam1", frame=5, time=1.0, size=(64, 48), format="png", data=b"\x89PNG"
            ),
            "objects.add": ADDED,
            "objects.add_many": replies.AddedMany(
                stream="cam1", frame=5, objects=[replies.Match(object=7, added=True, iou=None)]
            ),
            "objects.refine": RESULT,
            "objects.update": replies.UpdatedObject(**structs.asdict(ENTRY), durable=True),
            "objects.remove": replies.Removed(removed=[7]),
            "objects.list": replies.ObjectList(objects=[ENTRY]),
            "objects.export": replies.ExportedChunk(token="t", record=MOVED, size=9, offset=5, data=b"data"),
            "objects.import": replies.Imported(stream="cam1", received=9, object=7, durable=True),
            "segment.prompt": replies.Candidates(stream="cam1", frame=5, candidates=[]),
            "segment.all": replies.FoundMasks(stream="cam1", frame=5, masks=[]),
            "segment.cancel": replies.Empty(),
            "objects.describe": DESCRIBED,
            "search.similar": look_replies.SimilarFound(hits=[HIT], left_out=3),
            "watch.add": WATCHED,
            "watch.list": look_replies.WatchList(watched=[WATCHED]),
            "watch.remove": WATCHED,
            "zones.set": ZONE,
            "zones.remove": ZONE,
            "zones.list": replies.ZoneList(zones=[ZONE]),
            "history.list": replies.EventList(events=[]),
        }
        self.control = ControlServer(control, self._handle, OPERATIONS, instance)
        self.control.start()

    def _handle(self, request: Request) -> None:
        self.on_request(request)
        answer = self.answers[request.op]
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            request.reply(answer)

    def stop(self) -> None:
        self.control.stop()
        self.publisher.stop()
