"""One browser's WebSocket: what it asks for, what it is told, and the newest picture of each stream it looks at.

Nothing queues up for a slow browser. As many pictures are under way as it confirms in time; meanwhile a newer
picture takes the place of the one that waits, and a newer status that of the last.
"""

import asyncio
import logging
import time
from collections import deque

import msgspec
from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

from tracker.errors import TrackerError
from tracker.web import messages as m
from tracker.web.hub import Hub
from tracker.web.operations import LATE, ask, late_after_s
from tracker.web.pace import Pace

log = logging.getLogger(__name__)

# A browser that is so far behind is disconnected; it comes back and asks anew.
MAX_TEXTS, MAX_TEXTS_BYTES = 1000, 16 * 2**20
MAX_CALLS = 32
TOO_SLOW = 1013


class Viewer:
    def __init__(self, socket: WebSocket, hub: Hub) -> None:
        self._socket = socket
        self._hub = hub
        self._texts: deque[bytes] = deque()
        self._status: bytes | None = None  # the newest that was not sent
        self._pictures: dict[str, bytes] = {}  # the newest of each stream that was not sent
        self._pace = Pace()
        self._wanted: dict[str, int] = {}  # stream -> width in device pixels, as the page asked
        self._looks: dict[str, str] = {}  # those of them that are there -> published width
        self._calls: set[asyncio.Task[None]] = set()
        self._something = asyncio.Event()
        self._overrun = False

    async def run(self) -> None:
        """Until the browser goes, or is too slow."""
        self._hub.join(self)
        sender = asyncio.create_task(self._send(), name="viewer")
        receiver = asyncio.create_task(self._receive(), name="viewer")
        try:
            done, _ = await asyncio.wait((sender, receiver), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) and not isinstance(error, WebSocketDisconnect | RuntimeError):
                    raise error
        finally:
            self._hub.leave(self)
            for task in (sender, receiver, *self._calls):
                task.cancel()
            await asyncio.gather(sender, receiver, *self._calls, return_exceptions=True)
            await self._look({})

    def tell(self, message: Struct) -> None:
        text = msgspec.json.encode(message)
        if isinstance(message, m.StatusSeen):
            self._look_at_those_there()
            self._status = text
        elif len(self._texts) >= MAX_TEXTS or sum(map(len, self._texts)) >= MAX_TEXTS_BYTES:
            self._overrun = True
        else:
            self._texts.append(text)
        self._something.set()

    def show(self, stream: str, packed: bytes) -> None:
        """Send a picture when the browser is ready for it, unless a newer one comes first."""
        if stream in self._looks:
            self._pictures[stream] = packed
            self._something.set()

    async def _send(self) -> None:
        while not self._overrun:
            await self._something.wait()
            self._something.clear()
            while self._texts:
                await self._socket.send_text(self._texts.popleft().decode())
            if status := self._status:
                self._status = None
                await self._socket.send_text(status.decode())
            await self._send_pictures()
        await self._socket.close(TOO_SLOW)

    async def _send_pictures(self) -> None:
        while stream := self._pace.next_of(self._pictures, self._wanted, time.monotonic()):
            packed = self._pictures.pop(stream)
            self._pace.sent(stream, self._looks[stream], time.monotonic())
            await self._socket.send_bytes(packed)

    async def _receive(self) -> None:
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received["code"])
            message = m.read(received)
            match message:
                case m.Drawn(stream):
                    if self._pace.confirmed(stream, time.monotonic()):
                        await self._look(self._wanted)
                    self._something.set()
                case m.Look(streams):
                    await self._look(streams)
                case m.Ping(sent, round_trip_s):
                    self._pace.round_trip_s = round_trip_s
                    self.tell(m.Pong(sent=sent, time=time.time()))
                case m.Call():
                    self._call(message)

    def _call(self, call: m.Call) -> None:
        if len(self._calls) >= MAX_CALLS:
            self.tell(m.Refused(id=call.id, code="unavailable", message=f"{MAX_CALLS} requests wait already"))
            return
        task = asyncio.create_task(self._answer(call), name=f"call {call.op}")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, call: m.Call) -> None:
        late_s, say_late = late_after_s(call.op), m.Late(id=call.id, message=LATE)
        late = None if late_s is None else asyncio.get_running_loop().call_later(late_s, self.tell, say_late)
        try:
            result = await ask(self._hub.client, call.op, call.args)
        except TrackerError as error:
            self.tell(m.Refused(id=call.id, code=error.code, message=error.message))
        except Exception:
            log.exception("%s failed", call.op)
            self.tell(m.Refused(id=call.id, code="internal", message=f"{call.op} failed in the page's server"))
        else:
            self.tell(m.Answer(id=call.id, result=result))
        finally:
            if late is not None:
                late.cancel()

    async def _look(self, streams: dict[str, int]) -> None:
        self._pace.forget(self._wanted.keys() - streams)
        self._wanted = streams
        before, self._looks = self._looks, {}
        self._look_at_those_there()
        left = {stream: name for stream, name in before.items() if self._looks.get(stream) != name}
        for stream in left:  # all at once: pictures are sent while the hub is told
            self._pictures.pop(stream, None)
        for stream, name in left.items():
            await self._hub.look_away(stream, name, self.show)

    def _look_at_those_there(self) -> None:
        """A name that is no stream's would be asked for again and again: it waits for a status that has it."""
        there = self._hub.there()
        for stream, width in self._wanted.items():
            if stream in there and stream not in self._looks:
                self._looks[stream] = self._hub.look(stream, self._pace.bounded(width), self.show)
