"""One subscription to a stream's pictures at one width, shared by everybody who looks at it."""

import asyncio
import logging
from collections.abc import Callable

from tracker.client import AsyncClient
from tracker.errors import TrackerError
from tracker.protocol.fields import PICTURE_WIDTHS
from tracker.protocol.messages import FrameMessage, Tracks
from tracker.web.messages import picture

log = logging.getLogger(__name__)

RETRY_S = 0.5
Sink = Callable[[str, bytes], None]  # stream, picture message


def topic_width(width: int) -> str:
    """The published width that fills so many pixels."""
    return next(name for name, published in PICTURE_WIDTHS.items() if published is None or published >= width)


class Feed:
    """Pairs each picture with the tracks of its frame and hands both, packed once, to all sinks."""

    def __init__(self, client: AsyncClient, stream: str, width: str) -> None:
        self._client = client
        self._stream = stream
        self._width = width
        self.sinks: set[Sink] = set()
        self._task = asyncio.create_task(self._run(), name=f"feed {stream} {width}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except TrackerError as error:  # the hub says to everybody that the daemon is away
                log.debug("pictures of %s: %s", self._stream, error)
                await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        tracks: Tracks | None = None
        topics = ("tracks", f"frames/{self._width}")
        async with self._client.subscribe(self._stream, topics) as messages:
            async for message in messages:
                body = message.body
                if isinstance(body, Tracks):  # published before the picture of the same frame
                    tracks = body
                elif isinstance(body, FrameMessage) and message.image is not None:
                    self._show(body, tracks, message.image)

    def _show(self, frame: FrameMessage, tracks: Tracks | None, jpeg: bytes) -> None:
        same = tracks is not None and (tracks.frame, tracks.instance) == (frame.frame, frame.instance)
        packed = picture(frame, tracks if same else None, jpeg)
        for sink in tuple(self.sinks):
            sink(self._stream, packed)
