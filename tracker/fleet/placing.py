"""Which wanted streams this box takes: it pulls one after another while it has room."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tracker.client.tasks import ended
from tracker.config import STREAM_NAME
from tracker.config.wording import name_problem
from tracker.errors import TrackerError
from tracker.fleet.buckets import Buckets, entry_of
from tracker.fleet.daemon_link import Daemon
from tracker.fleet.pulling import Pull
from tracker.fleet.queueing import consumer_of
from tracker.fleet.records import ANY, QUEUE, Order, decoded, needs_key, satisfied
from tracker.fleet.settings import Labels, RoomConfig
from tracker.protocol.placement import key_of, name_of

log = logging.getLogger(__name__)

SILENT_S = 1.0  # between two requests where NATS does not answer
FILL_S = 5.0  # an empty box takes at least so long to fill up, so that others, as empty, get their share
IDLE_PAUSE_S = 0.5  # between two requests of a full box; of an empty one none: emptier boxes pull sooner
DECLINED_S = 60.0  # a stream that this box could not serve is left to others for so long
HANDED_ON_S = 0.2  # what is not for this box is offered again after so long, about
REFUSED_PAUSE_S = 1.0  # and this box asks for nothing: else the same few would be offered it in turn, and no other
MAX_NEEDS = 256  # different ones
MOVED_S = 60.0  # an order to move a stream counts for so long, by the clock of who hears it


@dataclass(eq=False)
class Room:
    """Whether the box can take one more stream, as its daemon's admission and its settings say."""

    config: RoomConfig
    daemon: Daemon
    streams: Callable[[], int]
    objects_free: int = 0
    objects: int = 1

    def why_none(self) -> str | None:
        status = self.daemon.status
        if self.daemon.info is None or status is None:
            return "its daemon does not answer"
        if self.streams() >= self.config.streams:
            return f"it serves {self.streams()} streams, as many as room.streams lets it"
        if self.objects_free < 1:
            return "its daemon has no room for another object"
        memory = status.memory
        if memory.total_bytes and memory.used_bytes > self.config.memory_fraction * memory.total_bytes:
            return f"more than {self.config.memory_fraction:.0%} of its device's memory are in use"
        return None

    async def look(self) -> None:
        """Ask the daemon. Raises TrackerError."""
        self.objects_free = await self.daemon.objects_free()
        if self.daemon.info is not None:
            self.objects = self.daemon.info.limits.objects

    @property
    def fill(self) -> float:
        """0 empty, 1 full."""
        return max(self.streams() / self.config.streams, 1 - self.objects_free / max(1, self.objects))


@dataclass(frozen=True, slots=True)
class Declined:
    """A stream that the box could not serve, with these settings."""

    until_s: float
    revision: int


@dataclass(eq=False)
class Placing:
    """One loop for each set of needs that the box meets. `take` gets a stream's name and its message."""

    buckets: Buckets
    box: str
    labels: dict[str, str | bool | int]
    room: Room
    orders: dict[str, bytes]
    take: Callable[[str, Msg], "asyncio.Event"]
    pulls_from_s: float = 0.0  # not before: the owners say first that they are there
    _loops: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    _declined: dict[str, Declined] = field(default_factory=dict)  # by stream
    _ordered_s: dict[str, float] = field(default_factory=dict)  # when each order was heard

    def start(self) -> None:
        """Take what needs nothing."""
        self._loops[ANY] = asyncio.create_task(self._pull(ANY), name=f"pull-{ANY}")

    def needs_changed(self, key: str, data: bytes | None) -> None:
        """Others may write into the same NATS: what is not kept under its own key are no needs."""
        needs = decoded(data, Labels)
        if key == ANY or (data is not None and (needs is None or needs_key(needs) != key)):
            return
        fits = needs is not None and satisfied(needs, self.labels)
        if fits and key not in self._loops and len(self._loops) >= MAX_NEEDS:
            log.warning("more than %d different needs: these are left to others: %s", MAX_NEEDS, needs)
        elif fits and key not in self._loops:
            self._loops[key] = asyncio.create_task(self._pull(key), name=f"pull-{key}")
        elif not fits and key in self._loops:
            self._loops.pop(key).cancel()

    def orders_changed(self, key: str, data: bytes | None) -> None:
        if data is None:
            self._ordered_s.pop(key, None)
        else:
            self._ordered_s[key] = time.monotonic()

    async def stop(self) -> None:
        loops = list(self._loops.values())
        self._loops.clear()
        await ended(loops)

    def decline(self, stream: str, revision: int) -> None:
        """Leave a stream that could not be served to others for a while, or until its settings are others."""
        now_s = time.monotonic()
        self._declined = {name: declined for name, declined in self._declined.items() if declined.until_s > now_s}
        self._declined[stream] = Declined(now_s + DECLINED_S, revision)

    def why_not(self) -> str | None:
        """Why the box takes no streams."""
        if self.drained:
            return "it is drained"
        if time.monotonic() < self.pulls_from_s:
            return "it has just reached NATS, and lets owners say first that they are there"
        return self.room.why_none()

    @property
    def drained(self) -> bool:
        return f"drain.{key_of(self.box)}" in self.orders

    async def _pull(self, needs: str) -> None:
        """Until the loop is the one of these needs no more, also where it misses that it was cancelled."""
        async with Pull(self.buckets.nats, QUEUE, consumer_of(needs)) as pull:
            while self._loops.get(needs) is asyncio.current_task():
                await self._until_there_is_room()
                try:
                    message = await pull.next()
                except (NatsError, TimeoutError, OSError) as error:
                    log.debug("nothing can be pulled: %s", error)
                    await asyncio.sleep(SILENT_S)
                    continue
                if message is None:
                    await asyncio.sleep(IDLE_PAUSE_S * self.room.fill)
                elif time.monotonic() >= self.pulls_from_s:  # else it was asked for before NATS was away
                    await self._offer(message)

    async def _offer(self, message: Msg) -> None:
        """And wait for a moment, in which others ask."""
        with contextlib.suppress(NatsError, TimeoutError, OSError):  # it is handed out again
            if not await self._offered(message):
                await asyncio.sleep(REFUSED_PAUSE_S)
        await asyncio.sleep(FILL_S / self.room.config.streams * (0.5 + self.room.fill))

    async def _until_there_is_room(self) -> None:
        while True:
            wait_s = self.pulls_from_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            if self.why_not() is None:
                return
            await asyncio.sleep(0.2)

    async def _offered(self, message: Msg) -> bool:
        """Whether it is taken."""
        stream = name_of(message.subject.rpartition(".")[2])
        if name_problem(stream, STREAM_NAME) is not None:
            log.warning("no stream can be called %r", stream)
            await message.term()
            return False
        try:
            await self.room.look()
        except TrackerError as error:
            log.warning("the daemon does not answer: %s", error)
        if not self.is_for_us(stream) or await self._is_declined(stream) or self.why_not() is not None:
            await message.nak(random.uniform(0.5, 1.5) * HANDED_ON_S)
            return False
        await self.take(stream, message).wait()
        return True

    def is_for_us(self, stream: str) -> bool:
        key = f"move.{key_of(stream)}"
        order: Order | None = decoded(self.orders.get(key), Order)
        if order is None or time.monotonic() - self._ordered_s[key] > MOVED_S:
            return True
        return order.to == self.box if order.to is not None else order.box != self.box

    async def _is_declined(self, stream: str) -> bool:
        declined = self._declined.get(stream)
        if declined is None or declined.until_s < time.monotonic():
            return False
        return (await entry_of(self.buckets.wanted, key_of(stream))).revision == declined.revision
