"""A stream in the box's own daemon: put there, looked after, and taken away."""

import asyncio
import logging
from weakref import WeakValueDictionary

from msgspec import structs

from tracker.config import StreamConfig
from tracker.errors import BadRequest
from tracker.fleet.bundles import Bundle, StoredObject
from tracker.fleet.claim import Superseded
from tracker.fleet.daemon_link import Daemon
from tracker.protocol.fields import StreamState
from tracker.protocol.placement import Token
from tracker.protocol.records import StreamRecord

log = logging.getLogger(__name__)

MISSING = 2  # statuses of the daemon without the stream: the first may be older than the stream


class Turn(asyncio.Lock):
    """One owner after the other puts a stream into the daemon or takes it away, the newest last.

    A box may own a stream anew while it still ends its ownership of before.
    """

    newest = Token(0, 0)


Turns = WeakValueDictionary[str, Turn]  # by stream, while it has an owner on this box


class Serving:
    """Of one stream, by one owner."""

    def __init__(self, daemon: Daemon, turns: Turns, stream: str, token: Token) -> None:
        self._daemon = daemon
        self._turn = turns.setdefault(stream, Turn())
        self._stream = stream
        self._token = token
        self._owner = str(token)
        self._last: StreamRecord | None = None
        self._missing = 0  # statuses without it

    @property
    def state(self) -> StreamState:
        """Of the stream, as heard last."""
        return self._last.state if self._last else "connecting"

    @property
    def is_gone(self) -> bool:
        """The daemon was restarted, or somebody removed the stream there."""
        return self._missing >= MISSING

    def heard(self, record: StreamRecord | None) -> bool:
        """What the daemon says of it, None where it is not in its status. Returns whether its state changed."""
        if record is None or record.owner != self._owner:
            self._missing += 1
            return False
        self._missing = 0
        changed = self._last is None or self._last.state != record.state
        self._last = record
        return changed

    def heard_live(self) -> bool:
        """An event says so, before the next status does."""
        return self._last is not None and self.heard(structs.replace(self._last, state="live"))

    async def start(self, config: StreamConfig, first_frame: int, epoch: int, first_object: int) -> StreamRecord:
        """Raises TrackerError where the daemon does not take it, Superseded where this box owns it anew."""
        numbers = (first_frame, epoch, first_object)
        async with self._turn:
            if self._turn.newest > self._token:
                raise Superseded
            self._turn.newest = self._token
            await self._daemon.remove_stream(self._stream)  # of an owner before us, this very box perhaps
            record = await self._daemon.add_stream(self._stream, config, self._owner, *numbers)
        self._last, self._missing = None, 0
        return record

    async def take(self, bundle: Bundle) -> str | None:
        """Go on with stored objects. Returns why one cannot; raises TrackerError where there is no room."""
        failed = [why for why in [await self._take(stored) for stored in bundle.objects] if why]
        return failed[0] if failed else None

    async def _take(self, stored: StoredObject) -> str | None:
        try:
            await self._daemon.take(self._stream, stored)
        except BadRequest as error:  # it is of another model; all else may pass, or another box may have room
            log.error("%s: object %d cannot go on here: %s", self._stream, stored.record.object, error)
            return str(error)
        return None

    async def remove(self) -> None:
        """Unless it is there for somebody else: this very box may have taken it anew."""
        async with self._turn:
            records = {record.stream: record for record in await self._daemon.streams()}
            record = records.get(self._stream)
            if record is not None and record.owner == self._owner:
                await self._daemon.remove_stream(self._stream)
