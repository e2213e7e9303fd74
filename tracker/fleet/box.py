"""A box of the fleet: one process beside a daemon, which takes wanted streams, keeps them, and gives them away."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

import tracker
from tracker.client import Message
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.tasks import ended, is_cancelled
from tracker.errors import TrackerError
from tracker.fleet.buckets import Buckets, entry_of
from tracker.fleet.bundles import drop_leftovers
from tracker.fleet.daemon_link import Daemon, public_key
from tracker.fleet.files import Files
from tracker.fleet.ground import Ground
from tracker.fleet.lease import Lease
from tracker.fleet.metrics import Figures
from tracker.fleet.mirror import Mirror
from tracker.fleet.placing import Placing, Room
from tracker.fleet.presence import HEARTBEAT_S, Presence
from tracker.fleet.reading import View, answered
from tracker.fleet.records import ACK_WAIT_S, NEEDS, ORDERS, PROGRESS_S, BoxRecord, Claim, Order, decoded
from tracker.fleet.serving import Turn
from tracker.fleet.settings import BoxConfig
from tracker.fleet.worker import Worker
from tracker.protocol.messages import Event, Status
from tracker.protocol.placement import key_of
from tracker.protocol.records import StreamRecord

log = logging.getLogger(__name__)

NATS_GONE = "NATS is gone: what runs goes on, nothing is placed"
STATE_GONE = (
    "NATS has lost what it stored: the streams that run are wanted as they are; all else, as other streams, drains "
    "and jobs, people have to say again"
)
ASLEEP_S = ACK_WAIT_S / 2  # between two ticks: the process was stopped, and may own nothing any more
SWEEP_S = 4 * 3600.0  # between two sweeps of what dead boxes left
DAEMON_GONE_S = 3.0  # then its streams go elsewhere


class Box:
    """`run` serves until it is cancelled."""

    def __init__(self, config: BoxConfig, daemon: Daemon) -> None:
        self.name = config.name
        self.leases: dict[str, Lease] = {}
        self.connected = False  # to a fleet that it is in
        self._is_open = False
        self._config = config
        self._daemon = daemon
        self._presence = Presence(self.name)
        self._tasks: set[asyncio.Task[None]] = set()
        self._daemon_gone_s: float | None = time.monotonic()  # since when
        self._published = ""  # where the daemon publishes, as it said last
        self._is_tidy = False  # nothing is known in the daemon that is another's
        self._tidying: asyncio.Task[None] | None = None
        self._going_on: asyncio.Task[None] | None = None  # once NATS is back
        self._mirror: Mirror | None = None
        self.figures = Figures(self._gauges)
        self._room = Room(config.room, daemon, lambda: len(self.leases))
        daemon.on_message = self._heard
        daemon.on_change = self._daemon_changed

    async def run(self) -> None:
        """Raises ConfigError."""
        key = public_key(self._config.daemon.key)
        self._nats = await connect_nats(
            self._config.nats.options(), f"box {self.name}", on_lost=self._lost, on_back=self._back, wait=True
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(close_nats, self._nats)
            stack.push_async_callback(self._stop_tasks)
            await self._open(self._nats, key)
            stack.push_async_callback(self._placing.stop)
            self._spawn(self._daemon.run())
            self._spawn(self._sweep())
            if self._config.mirror:
                self._mirror = Mirror(self._nats, self._is_ours)
                self._spawn(self._mirror.run())
            if self._config.jobs.inputs:
                files = await self._files()
                self._spawn(Worker(self.name, self._config.jobs, self._daemon, files, self._may_work).run())
            await self._tick()

    async def _open(self, nats: Nats, key: str | None) -> None:
        self._buckets = await self._opened()
        self._founded = self._buckets.founded
        self._orders = View(nats, ORDERS, self._ordered)
        self._placing = Placing(
            self._buckets, self.name, self._config.labels, self._room, self._orders.entries, self._take
        )
        self._placing.pulls_from_s = time.monotonic() + ACK_WAIT_S
        self._ground = Ground(
            nats,
            self._buckets,
            self._daemon,
            self.name,
            self._config.advertise.control or self._config.daemon.control,
            self._publish_endpoint,
            key,
            lambda: self._founded,
            lambda: self.connected,
            self._served,
        )
        self._needs = View(nats, NEEDS, self._placing.needs_changed)
        await self._orders.start()
        await self._needs.start()
        self._is_open = True
        self.connected = nats.is_connected
        if nats.stats["reconnects"]:  # what was ordered meanwhile was not heard
            await self._reload()
        self._placing.start()
        log.info("box %s is in the fleet", self.name)

    async def _opened(self) -> Buckets:
        return await answered(lambda: Buckets.create(self._nats, self._config.nats.replicas))

    async def _files(self) -> Files:
        return await answered(lambda: Files.create(self._nats, self._config.nats.replicas))

    async def _stop_tasks(self) -> None:
        """Streams that are still here are left to their time: JetStream hands them on when this box is silent."""
        self.connected = False  # nobody is to be told that we end
        await ended(self._tasks)

    # ------------------------------------------------------------------------------------------------ its clock

    async def _tick(self) -> None:
        """Every second: tell JetStream that the streams are served, and the fleet that the box is there.

        Until it is cancelled, or was before: the client library may swallow that.
        """
        last_s, beat_s = time.monotonic(), 0.0
        while not is_cancelled():
            now_s = time.monotonic()
            if now_s - last_s > ASLEEP_S:
                log.warning("this process did not run for %.1f s", now_s - last_s)
                self._verify_all()
            last_s = now_s
            for lease in list(self.leases.values()):
                await lease.in_progress()
            if self._daemon_gone_s is not None and now_s - self._daemon_gone_s > DAEMON_GONE_S:
                for lease in self.leases.values():
                    lease.lose()
            if now_s >= beat_s and self.connected:
                beat_s = now_s + HEARTBEAT_S
                self._spawn(self._beat())
            await asyncio.sleep(PROGRESS_S)

    async def _beat(self) -> None:
        with contextlib.suppress(NatsError, TimeoutError, OSError, TrackerError):
            if self._daemon.info is not None:
                await self._room.look()
            await self._presence.renew(self._buckets.boxes, self.record)

    async def _sweep(self) -> None:
        """Now and then, and not when all others do."""
        while True:
            await asyncio.sleep(random.uniform(0, 2 * SWEEP_S))
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                if number := await drop_leftovers(self._buckets.js):
                    log.info("objects that boxes which died have left in NATS are removed, %d times", number)

    def record(self) -> BoxRecord:
        status = self._daemon.status
        return BoxRecord(
            box=self.name,
            time=time.time(),
            labels=self._config.labels,
            streams=len(self.leases),
            streams_room=self._config.room.streams,
            objects=sum(stream.objects for stream in status.streams) if status else 0,
            objects_room=self._room.objects,
            version=tracker.__version__,
            message="another box is called so as well" if self._presence.has_rival else self._placing.why_not(),
            instance=self._presence.instance,
        )

    def _verify_all(self) -> None:
        for lease in self.leases.values():
            lease.verify()

    # ------------------------------------------------------------------------------------------ what it hears

    async def _lost(self) -> None:
        if self.connected:
            log.warning(NATS_GONE)
            self.figures.counts["nats_lost"] += 1
            self._spawn(self._note(NATS_GONE))
        self.connected = False

    async def _back(self) -> None:
        """Owners say at once that they are there, and pull nothing new until all others could."""
        if not self._is_open:  # it has nothing to say yet
            return
        self._placing.pulls_from_s = time.monotonic() + ACK_WAIT_S
        for lease in list(self.leases.values()):
            await lease.in_progress()
        if self._going_on is not None:  # a server that drops its connections all night long is asked once
            self._going_on.cancel()
        self._going_on = self._spawn(self._go_on(self._nats.stats["reconnects"]))

    async def _go_on(self, reconnects: int) -> None:
        """Once it is clear whether NATS still has what it stored, unless it is lost meanwhile."""
        founded = (await self._opened()).founded
        is_lost, has_files = founded != self._founded, bool(self._config.jobs.inputs)
        if is_lost and has_files:
            await self._files()
        if reconnects != self._nats.stats["reconnects"] or not self._nats.is_connected:
            return
        self.connected = True
        log.info("NATS is back")
        if is_lost:
            log.error(STATE_GONE)
            self._founded = founded
            for lease in self.leases.values():
                lease.refound()
        self._verify_all()
        self._spawn(self._reload())
        self._spawn(self._note(None))

    async def _note(self, message: str | None) -> None:
        """For people who look at the daemon: `trackctl info`, an event, a metric."""
        with contextlib.suppress(TrackerError):
            await self._daemon.note(message)

    async def _reload(self) -> None:
        """What was ordered while NATS was away was not heard; it is asked until it is known."""
        while self.connected:
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                await self._orders.load()
                await self._needs.load()
                return
            await asyncio.sleep(PROGRESS_S)

    def _daemon_changed(self) -> None:
        self._daemon_gone_s = time.monotonic() if self._daemon.info is None else None
        self._is_tidy = False

    def _look_for_strays(self, status: Status) -> None:
        """With each status: a daemon that was too busy to remove a stream when it was to, is asked again."""
        if any(isinstance(record.owner, str) and record.stream not in self.leases for record in status.streams):
            self._is_tidy = False
        if self.connected and not self._is_tidy and (self._tidying is None or self._tidying.done()):
            self._tidying = self._spawn(self._tidy())

    async def _tidy(self) -> None:
        """Go on with what the daemon serves for this box since before it was restarted, and remove what it still
        serves for a fleet that gave it to others meanwhile."""
        with contextlib.suppress(NatsError, TimeoutError, OSError, TrackerError):
            for record in await self._daemon.streams():
                if record.stream in self.leases or await self._goes_on(record):
                    continue
                if await self._is_the_fleets(record):
                    await self._remove(record.stream)
            self._is_tidy = True

    async def _goes_on(self, record: StreamRecord) -> bool:
        claim: Claim | None = decoded((await entry_of(self._buckets.claims, key_of(record.stream))).value, Claim)
        if claim is None or claim.hold is None or (claim.box, claim.owner) != (self.name, record.owner):
            return False
        if record.stream not in self.leases:
            message = Msg(self._nats, reply=claim.hold.message)
            lease = self._lease(Lease(self._ground, record.stream, message, claim.token))
            lease.verify()  # its settings may be others
            if self._placing.drained or not self._placing.is_for_us(record.stream):
                lease.give()
        return True

    async def _remove(self, stream: str) -> None:
        """Unless this box has taken it meanwhile: who starts it in the daemon comes before, or waits for us."""
        async with self._ground.turns.setdefault(stream, Turn()):
            if stream not in self.leases:
                await self._daemon.remove_stream(stream)
                log.info("%s was left in the daemon, and is removed", stream)

    async def _is_the_fleets(self, record: StreamRecord) -> bool:
        """A daemon that brings streams back after a restart does not know any more who placed them."""
        if isinstance(record.owner, str):
            return True
        return (await entry_of(self._buckets.wanted, key_of(record.stream))).value is not None

    def _heard(self, message: Message) -> None:
        if self._mirror is not None:
            self._mirror.take(message)
        body = message.body
        if isinstance(body, Event) and body.stream in self.leases:
            self.leases[body.stream].take_event(body)
        elif isinstance(body, Status):
            records = {record.stream: record for record in body.streams}
            for name, lease in self.leases.items():
                lease.take_record(records.get(name))
            self._look_for_strays(body)

    def _ordered(self, key: str, data: bytes | None) -> None:
        self._placing.orders_changed(key, data)
        order: Order | None = decoded(data, Order)
        if order is None or order.box != self.name:
            return
        for lease in self.leases.values():
            if order.kind == "drain" or key == f"move.{key_of(lease.stream)}":
                lease.give()

    def _is_ours(self, stream: str, owner: object) -> bool:
        """Whether this box speaks for the stream, as far as it knows."""
        return self.connected and stream in self.leases and self.leases[stream].is_ours(owner)

    def _gauges(self) -> dict[str, float]:
        return {
            "connected": self.connected,
            "daemon": self._daemon.info is not None,
            "streams": len(self.leases),
            "streams_room": self._config.room.streams,
            "mirror_dropped": self._mirror.dropped if self._mirror else 0,
        }

    def _may_work(self) -> bool:
        """On files: live streams come first."""
        starting = any(lease.is_starting for lease in self.leases.values())
        return self.connected and not self._placing.drained and not starting

    def _publish_endpoint(self) -> str:
        """As long as the daemon does not answer, it is where it was."""
        if self._daemon.info is not None:
            self._published = self._daemon.info.publish
        return self._config.advertise.publish or self._published

    # ---------------------------------------------------------------------------------------------- its leases

    def _take(self, stream: str, message: Msg) -> asyncio.Event:
        held = self.leases.get(stream)
        if held is not None and held.goes_on_with(message):
            return held.claimed
        return self._lease(Lease(self._ground, stream, message)).claimed

    def _lease(self, lease: Lease) -> Lease:
        self.leases[lease.stream] = lease  # one that was given away, and came back, ends by itself
        self._spawn(self._live(lease))
        return lease

    async def _live(self, lease: Lease) -> None:
        try:
            await lease.run()
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("%s: NATS: %s", lease.stream, error)
        finally:
            self.figures.counts["left"] += 1
            if self.leases.get(lease.stream) is lease:
                del self.leases[lease.stream]

    def _served(self, stream: str, why_not: str | None, revision: int) -> None:
        self.figures.counts["taken" if why_not is None else "refused"] += 1
        if why_not is None:
            log.info("%s is served here", stream)
        else:
            self._placing.decline(stream, revision)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
