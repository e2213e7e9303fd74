"""A control and a publish socket with a small handler where the daemon would be."""

import queue
from typing import Any

from msgspec import structs

from tracker import protocol as p
from tracker.control import ControlServer, Request
from tracker.publisher import Publisher

STREAM = p.StreamRecord(stream="cam1", url="rtsp://cam1.local/live", state="live", size=(64, 48))
OBJECT = p.ObjectRecord(object=7, state="visible", box=(1, 2, 3, 4), area=4)
ENTRY = p.ObjectEntry(**structs.asdict(OBJECT), stream="cam1", frame=5)
RESULT = p.ObjectResult(**structs.asdict(ENTRY), epoch=0, durable=True)
MODEL = p.ModelInfo(name="nano", image_size=256, device="cpu", dtype="float32", sha256=None)
LIMITS = p.Limits(objects=8, objects_free=7, history_frames=32)


class FakeDaemon:
    """The edge that is replaced: answers every operation from a table, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.publisher = Publisher("tcp://127.0.0.1:*", 100, "i1")
        self.publisher.start()
        self.answers: dict[str, Any] = {
            "server.info": p.ServerInfo(
                name="tracker",
                version="0",
                pid=1,
                uptime_s=1.5,
                model=MODEL,
                limits=LIMITS,
                publish=self.publisher.endpoint,
            ),
            "streams.list": p.StreamList(streams=[STREAM]),
            "streams.add": STREAM,
            "streams.remove": STREAM,
            "streams.pause": STREAM,
            "streams.resume": STREAM,
            "frames.get": p.FrameImage(
                stream="cam1", frame=5, time=1.0, size=(64, 48), format="png", data=b"\x89PNG"
            ),
            "objects.add": RESULT,
            "objects.add_many": p.AddedMany(
                stream="cam1", frame=5, objects=[p.Match(object=7, added=True, iou=None)]
            ),
            "objects.refine": RESULT,
            "objects.update": ENTRY,
            "objects.remove": p.Removed(removed=[7]),
            "objects.list": p.ObjectList(objects=[ENTRY]),
            "segment.prompt": p.Candidates(stream="cam1", frame=5, candidates=[]),
            "segment.all": p.FoundMasks(stream="cam1", frame=5, masks=[]),
            "segment.cancel": p.Empty(),
            "history.list": p.EventList(events=[]),
        }
        self.control = ControlServer("tcp://127.0.0.1:*", self._handle, p.OPERATIONS, "i1")
        self.control.start()

    def _handle(self, request: Request) -> None:
        self.asked.put(request)
        answer = self.answers[request.op]
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            request.reply(answer)

    def stop(self) -> None:
        self.control.stop()
        self.publisher.stop()
