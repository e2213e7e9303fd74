"""The one connection to the daemon for all viewers: does it answer, its status and events, feeds of pictures."""

import asyncio
import logging
from typing import Protocol

from msgspec import Struct

from tracker.client import AsyncClient
from tracker.errors import Timeout, TrackerError
from tracker.protocol.messages import Event, Status
from tracker.protocol.replies import ServerInfo
from tracker.web.feed import Feed, Sink, topic_width
from tracker.web.messages import DaemonSeen, EventSeen, StatusSeen

log = logging.getLogger(__name__)

SILENCE_S = 2.5  # the status comes every second
ANSWER_S = 2.0
RETRY_S = 0.5


class Listener(Protocol):
    def tell(self, message: Struct) -> None: ...


class Hub:
    def __init__(self, control: str) -> None:
        self.client = AsyncClient(control)
        self._probe = AsyncClient(control, timeout_s=ANSWER_S)
        self._listeners: set[Listener] = set()
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._daemon = DaemonSeen(info=None, message=f"connecting to {control}")
        self._status: Status | None = None
        self._task = asyncio.create_task(self._run(), name="hub")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, *(feed.close() for feed in self._feeds.values()), return_exceptions=True)
        self._probe.close()
        self.client.close()

    def join(self, listener: Listener) -> None:
        """From now on it is told everything, and at once what is known."""
        self._listeners.add(listener)
        listener.tell(self._daemon)
        if self._status is not None and self._daemon.info is not None:
            listener.tell(StatusSeen(status=self._status))

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def there(self) -> set[str]:
        """The streams that the daemon has, as its last status says."""
        return set() if self._status is None else {record.stream for record in self._status.streams}

    def look(self, stream: str, width: int, sink: Sink) -> str:
        """Have pictures of a stream sent to `sink`; the width that they come in is the handle for `look_away`."""
        name = topic_width(width)
        feed = self._feeds.get((stream, name))
        if feed is None:
            feed = self._feeds[stream, name] = Feed(self.client, stream, name)
        feed.sinks.add(sink)
        return name

    async def look_away(self, stream: str, name: str, sink: Sink) -> None:
        """The last one to look away ends the subscription, and with it the daemon's work for it."""
        feed = self._feeds.get((stream, name))
        if feed is None:
            return
        feed.sinks.discard(sink)
        if not feed.sinks:
            del self._feeds[stream, name]
            await feed.close()

    async def _run(self) -> None:
        while True:
            try:
                info = await self._probe.info()
                self._say(DaemonSeen(info=info))
                await self._listen(info)
            except Timeout:
                self._say(DaemonSeen(info=None, message="the daemon does not answer; trying again"))
            except TrackerError as error:
                self._say(DaemonSeen(info=None, message=str(error)))
            await asyncio.sleep(RETRY_S)

    async def _listen(self, info: ServerInfo) -> None:
        """Until nothing comes any more; a daemon that is only slow says so by answering."""
        instance: str | None = None  # the run of the daemon that was heard last
        async with self.client.subscribe(None, ("status", "events"), SILENCE_S) as messages:
            while True:
                try:
                    body = (await anext(messages)).body
                except Timeout:
                    if (await self._probe.info()).publish != info.publish:
                        return
                    continue
                if instance not in (None, body.instance):  # restarted before its silence was noticed
                    info = await self._probe.info()
                    self._say(DaemonSeen(info=info))
                instance = body.instance
                if isinstance(body, Status):
                    self._status = body
                    self._tell(StatusSeen(status=body))
                elif isinstance(body, Event):
                    self._tell(EventSeen(event=body))

    def _say(self, daemon: DaemonSeen) -> None:
        if (daemon.info is None) != (self._daemon.info is None) or daemon.message != self._daemon.message:
            log.info("daemon: %s", daemon.message or "answers")
        changed, self._daemon = daemon != self._daemon, daemon
        if changed:
            self._tell(daemon)

    def _tell(self, message: Struct) -> None:
        for listener in tuple(self._listeners):
            listener.tell(message)
