"""Boxes of a fleet without daemons, many in one process: what a fleet of that size costs, without its cameras.

python -m benches.fleet_boxes NATS-URL FIRST COUNT
"""

import asyncio
import sys
import time
from collections.abc import Callable

from tracker.client import Message
from tracker.config import StreamConfig
from tracker.errors import BadRequest
from tracker.fleet.box import Box
from tracker.fleet.bundles import StoredObject
from tracker.fleet.settings import BoxConfig, NatsConfig
from tracker.protocol import messages, records, replies
from tracker.protocol.fields import MAX_OBJECT

STATUS_S = 1.0
MODEL = replies.ModelInfo(name="none", image_size=0, device="none", dtype="none", sha256=None)
LIMITS = replies.Limits(objects=64, objects_free=64, history_frames=1)
INFO = replies.ServerInfo(
    name="simulated", version="0", pid=0, uptime_s=0, model=MODEL, limits=LIMITS, publish="tcp://127.0.0.1:1"
)


class SimulatedDaemon:
    """Takes every stream and calls it live; one that is away says nothing."""

    def __init__(self, *, is_away: bool = False) -> None:
        self._is_away = is_away
        self.info: replies.ServerInfo | None = None
        self.status: messages.Status | None = None
        self.on_message: Callable[[Message], None] = lambda _: None
        self.on_change: Callable[[], None] = lambda: None
        self._streams: dict[str, records.StreamRecord] = {}

    async def run(self) -> None:
        if self._is_away:
            await asyncio.Event().wait()
        self.info = INFO
        self.on_change()
        memory = messages.DeviceMemory(device="none", used_bytes=0, total_bytes=0)
        while True:
            self.status = messages.Status(
                time=time.time(), streams=list(self._streams.values()), memory=memory, steps=messages.StepTimes()
            )
            self.on_message(Message("status/", self.status))
            await asyncio.sleep(STATUS_S)

    async def objects_free(self) -> int:
        return LIMITS.objects_free

    async def add_stream(
        self, stream: str, config: StreamConfig, owner: str, first_frame: int, epoch: int, first_object: int
    ) -> records.StreamRecord:
        """Refuses a stream that is there already, and an impossible id, as a daemon does."""
        if not 1 <= first_object <= MAX_OBJECT:
            raise BadRequest(f"first_object: {first_object} is no id of an object")
        if stream in self._streams:
            raise BadRequest(f"stream: {stream!r} is there already")
        record = records.StreamRecord(
            stream=stream, url=config.url, state="live", decoded=first_frame, epoch=epoch, owner=owner
        )
        self._streams[stream] = record
        return record

    async def remove_stream(self, stream: str) -> records.StreamRecord | None:
        return self._streams.pop(stream, None)

    async def export(self, stream: str) -> list[StoredObject]:  # noqa: ARG002 - it has no objects
        return []

    async def take(self, stream: str, stored: StoredObject) -> None:
        raise NotImplementedError(f"{stream}: {stored.record.object}: simulated streams have no objects")

    async def streams(self) -> list[records.StreamRecord]:
        return list(self._streams.values())

    async def note(self, message: str | None) -> None:
        pass


async def run(nats: str, first: int, count: int) -> None:
    configs = [BoxConfig(box=f"box{first + i}", nats=NatsConfig(servers=(nats,))) for i in range(count)]
    async with asyncio.TaskGroup() as boxes:
        for config in configs:
            boxes.create_task(Box(config, SimulatedDaemon()).run())


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
