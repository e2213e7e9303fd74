"""One stream that this box owns: from the claim to the day when it is somebody else's.

    claimed -> serving -> given away -> ended
                       -> superseded, gone or lost -> ended

JetStream hands a stream's message to one box at a time, and hands it on when that box falls silent. Its token, the
stream's sequence and the delivery count, is made good by compare-and-set in the bucket of claims: of two boxes that
were handed the same stream, the one with the greater token serves it, and the other gives it up.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import structs
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tracker.errors import BadRequest, TrackerError
from tracker.fleet.buckets import Buckets, compare_and_delete, compare_and_set, entry_of
from tracker.fleet.bundles import Bundle, StoredObject, drop_bundle, get_bundle, put_bundle
from tracker.fleet.daemon_link import Daemon
from tracker.fleet.records import EPOCHS_BLOCK, FRAMES_BLOCK, Claim, decoded
from tracker.fleet.settings import WantedStream
from tracker.protocol.placement import SAVE, Token, Where, key_of, where_of
from tracker.protocol.replies import Event, StreamRecord

log = logging.getLogger(__name__)

SAVE_S = 10.0  # between two bundles where nothing changed but the objects' memories
RENEW_S = 5.0  # of the entry in `where`, which ends after 15 s
HANDED_OVER_S = 10.0  # at most, after somebody else claimed it, until this box stops serving what it gave away
MISSING = 2  # statuses of the daemon without the stream: the first may be older than the stream
REFUSED_S = 5.0  # until a stream that this box cannot serve is offered again

State = Literal["claiming", "serving", "given", "ended"]
CHANGES_OBJECTS = {"object_added", "object_refined", "object_removed", "object_expired", "object_failed"}


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What all leases of a box stand on."""

    nats: Nats
    buckets: Buckets
    daemon: Daemon
    box: str
    control: str  # endpoints and key that readers are told
    publish: Callable[[], str]
    key: str | None
    on_served: Callable[[str, str | None], None]  # stream, and why it is not


class Superseded(Exception):
    """Somebody else has a greater token."""


class Lease:
    """`run` it; meanwhile tell it what happens by its other methods, which return at once."""

    def __init__(self, ground: Ground, stream: str, message: Msg) -> None:
        self.stream = stream
        self.state: State = "claiming"
        self.claimed = asyncio.Event()  # or not to be had
        meta = message.metadata
        self.token = Token(meta.sequence.stream, meta.num_delivered)
        self._ground = ground
        self._message = message
        self._key = key_of(stream)
        self._claim: Claim | None = None
        self._claim_revision = 0
        self._where_revision = 0
        self._wanted = WantedStream(url="-")
        self._next_object = 1
        self._wake = asyncio.Event()
        self._due_s = {"save": 0.0, "renew": 0.0}
        self._saves: list[Msg] = []  # requests that wait for the objects to be stored
        self._wishes: set[str] = set()
        self._older: set[str] = set()  # tokens whose bundles ours takes the place of
        self._last: StreamRecord | None = None
        self._missing = 0  # statuses without it

    # -------------------------------------------------------------------------------------- told from outside

    def give(self) -> None:
        """Have another box take it; it is served here until one does."""
        self._wish("give")

    def lose(self) -> None:
        """The daemon is gone: hand the stream to another box at once."""
        self._wish("lost")

    def verify(self) -> None:
        """NATS was away, or this process was: see whether the stream is still ours."""
        self._wish("verify")

    def settings_changed(self) -> None:
        self._wish("verify")

    def take_record(self, record: StreamRecord | None) -> None:
        """The stream in the daemon's status; None where it is not in it."""
        if self.state not in ("serving", "given"):
            return
        if record is None or record.owner != str(self.token):
            self._missing += 1
            if self._missing >= MISSING:
                self._wish("restart")
            return
        self._missing = 0
        changed = self._last is None or self._last.state != record.state
        self._last = record
        if changed:
            self._due_s["renew"] = 0.0
            self._wake.set()

    def take_event(self, event: Event) -> None:
        if event.owner != str(self.token):
            return
        if isinstance(event.object, int):
            self._next_object = max(self._next_object, event.object + 1)
        if event.event in CHANGES_OBJECTS:
            self._due_s["save"] = 0.0
            self._wake.set()
        if event.event == "stream_live" and self._last is not None:
            self.take_record(structs.replace(self._last, state="live"))

    def is_ours(self, owner: object) -> bool:
        """Whether a message of this owner is one of ours, and the stream still ours as far as is known."""
        return owner == str(self.token) and self.state in ("serving", "given") and "verify" not in self._wishes

    async def in_progress(self) -> None:
        """Keep it from being handed to another box."""
        if self.state in ("claiming", "serving"):
            with contextlib.suppress(NatsError):
                await self._message.in_progress()

    # ------------------------------------------------------------------------------------------------- its life

    async def run(self) -> None:
        subscriptions = []
        try:
            if not await self._begin():
                return
            subscriptions = [
                await self._ground.nats.subscribe(f"$KV.tracker-claims.{self._key}", cb=self._see_claim),
                await self._ground.nats.subscribe(f"$KV.tracker-wanted.{self._key}", cb=self._see_wanted),
                await self._ground.nats.subscribe(f"{SAVE}.{self._key}.{key_of(str(self.token))}", cb=self._asked),
            ]
            await self._keep()
        except Superseded:
            await self._withdraw()
        finally:
            self.state = "ended"
            self.claimed.set()
            for subscription in subscriptions:
                with contextlib.suppress(NatsError):
                    await subscription.unsubscribe()

    async def _begin(self) -> bool:
        """Claim the stream and start it in the daemon. Returns whether it is served."""
        wanted = await entry_of(self._ground.buckets.wanted, self._key)
        if wanted.value is None:
            await self._message.ack()  # nobody wants it any more
            return False
        before = await self._make_claim()
        self.claimed.set()
        self._wanted = _wanted_of(wanted.value)
        try:
            await self._start(before)
        except TrackerError as error:
            await self._refuse(error)
            return False
        self.state = "serving"
        return True

    async def _make_claim(self) -> Claim | None:
        """Returns the claim that ours comes after. Raises Superseded where that is not an older one."""
        entry = await entry_of(self._ground.buckets.claims, self._key)
        before: Claim | None = decoded(entry.value, Claim)
        if before is not None and before.token >= self.token:
            raise Superseded
        claim = Claim(
            owner=str(self.token),
            box=self._ground.box,
            frames_end=(before.frames_end if before else 0) + FRAMES_BLOCK,
            epochs_end=(before.epochs_end if before else 0) + EPOCHS_BLOCK,
            bundle=before.bundle if before else None,
        )
        await self._set_claim(claim, entry.revision)
        return before

    async def _set_claim(self, claim: Claim, revision: int) -> None:
        """Raises Superseded where somebody else claimed the stream meanwhile."""
        data = msgspec.json.encode(claim)
        new = await compare_and_set(self._ground.buckets.claims, self._key, data, revision)
        if new is None:
            raise Superseded
        self._claim, self._claim_revision = claim, new

    async def _start(self, before: Claim | None) -> None:
        """Raises TrackerError where the daemon does not take it."""
        tokens = [text for text in (before.owner, before.bundle) if text] if before else []
        self._older.update(tokens)
        bundle = await get_bundle(self._ground.buckets.bundles, self.stream, tokens)
        await self._serve(bundle, before.frames_end if before else 0, before.epochs_end if before else 0)

    async def _serve(self, bundle: Bundle, first_frame: int, epoch: int) -> None:
        daemon = self._ground.daemon
        self._next_object = max(self._next_object, bundle.next_object)
        await daemon.remove_stream(self.stream)  # of an owner before us, this very box perhaps
        record = await daemon.add_stream(
            self.stream, self._wanted.config(), str(self.token), first_frame, epoch, self._next_object
        )
        await self._reserve(record)
        failed = [why for why in [await self._take(stored) for stored in bundle.objects] if why]
        self._last, self._missing = None, 0
        await self._renew()
        self._ground.on_served(self.stream, failed[0] if failed else None)

    async def _reserve(self, record: StreamRecord) -> None:
        """Move the block of our numbers up where the daemon counts from higher ones."""
        assert self._claim is not None
        frames_end = max(self._claim.frames_end, record.decoded + FRAMES_BLOCK // 2)
        epochs_end = max(self._claim.epochs_end, record.epoch + EPOCHS_BLOCK // 2)
        claim = structs.replace(self._claim, frames_end=frames_end, epochs_end=epochs_end)
        if claim != self._claim:
            await self._set_claim(claim, self._claim_revision)

    async def _take(self, stored: StoredObject) -> str | None:
        """Why an object cannot go on here: it is of another model. Raises TrackerError where there is no room."""
        try:
            await self._ground.daemon.take(self.stream, stored)
        except BadRequest as error:
            log.error("%s: object %d cannot go on here: %s", self.stream, stored.record.object, error)
            return str(error)
        return None

    async def _refuse(self, error: TrackerError) -> None:
        """Say why, and leave it to another box."""
        log.warning("%s is not served here: %s", self.stream, error)
        with contextlib.suppress(TrackerError):
            await self._ground.daemon.remove_stream(self.stream)
        assert self._claim is not None
        message = f"{self._ground.box}: {error}"
        await self._set_claim(structs.replace(self._claim, message=message), self._claim_revision)
        self._ground.on_served(self.stream, str(error))
        await self._message.nak(REFUSED_S)

    async def _keep(self) -> None:
        """Until the stream is somebody else's."""
        while self.state != "ended":
            due_s = min(self._due_s.values()) - time.monotonic()
            if self.state == "given":
                due_s = min(due_s, 0.5)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.05, due_s))
            self._wake.clear()
            try:
                await self._step()
            except (NatsError, TimeoutError, OSError) as error:  # what runs goes on; it is tried again
                log.debug("%s: NATS: %s", self.stream, error)
                await asyncio.sleep(0.2)
            except TrackerError as error:  # the daemon is away for a moment, or gone: the box will say so
                log.debug("%s: %s", self.stream, error)
                await asyncio.sleep(0.2)

    async def _step(self) -> None:
        """What is wished for, or due; a wish that fails stays."""
        handlers = {
            "superseded": self._be_superseded,
            "gone": self._end_for_good,
            "lost": self._lose,
            "verify": self._verify,
            "restart": self._restart,
            "give": self._give_away,
        }
        for wish, handle in handlers.items():
            if wish not in self._wishes or self.state == "ended":
                continue
            self._wishes.discard(wish)
            try:
                await handle()
            except (NatsError, TimeoutError, OSError, TrackerError):
                self._wishes.add(wish)
                raise
        if self.state == "ended":
            return
        if time.monotonic() >= self._due_s["renew"]:
            await self._renew()
        if time.monotonic() >= self._due_s["save"] or self._saves:
            await self._save()

    async def _be_superseded(self) -> None:
        raise Superseded

    async def _lose(self) -> None:
        """The daemon is gone: whoever pulls next goes on from what was stored last."""
        if self.state == "serving":
            await self._hand_over()
        self.state = "ended"

    async def _give_away(self) -> None:
        if self.state == "serving":
            await self._save()
            await self._hand_over()
            self.state = "given"

    async def _verify(self) -> None:
        """Raises Superseded; starts the stream again where its settings changed."""
        entry = await entry_of(self._ground.buckets.claims, self._key)
        claim = decoded(entry.value, Claim)
        if claim is not None and claim.token > self.token:
            raise Superseded
        self._claim_revision = entry.revision
        wanted = await entry_of(self._ground.buckets.wanted, self._key)
        if wanted.value is None:
            await self._end_for_good()
            return
        settings = _wanted_of(wanted.value)
        if settings != self._wanted:
            moved = settings.needs != self._wanted.needs  # then another message says so, and another box hears it
            self._wanted = settings
            await self._save()
            if moved:
                self.state = "given"
            else:
                await self._restart()
        self._due_s["renew"] = 0.0

    async def _restart(self) -> None:
        """In the same daemon, from what was stored last: it was restarted, or the settings are others."""
        tokens = [str(self.token)] + ([self._claim.bundle] if self._claim and self._claim.bundle else [])
        bundle = await get_bundle(self._ground.buckets.bundles, self.stream, tokens)
        assert self._claim is not None
        claim = structs.replace(
            self._claim,
            frames_end=self._claim.frames_end + FRAMES_BLOCK,
            epochs_end=self._claim.epochs_end + EPOCHS_BLOCK,
        )
        first_frame, epoch = self._claim.frames_end, self._claim.epochs_end
        await self._set_claim(claim, self._claim_revision)
        await self._serve(bundle, first_frame, epoch)

    async def _hand_over(self) -> None:
        """To whoever pulls next. Raises Superseded where it is not ours to give."""
        assert self._claim is not None
        await self._set_claim(self._claim, self._claim_revision)
        await self._message.nak()

    async def _withdraw(self) -> None:
        """The stream is another's now: what was given away is served until it is live there."""
        if self.state == "given":
            await self._wait_for_successor()
        if self.state in ("serving", "given"):
            log.info("%s is served elsewhere now", self.stream)
            with contextlib.suppress(TrackerError):
                await self._remove()
            await self._forget_own_bundle()

    async def _wait_for_successor(self) -> None:
        deadline_s = time.monotonic() + HANDED_OVER_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(NatsError, TimeoutError):
                entry = await entry_of(self._ground.buckets.where, self._key)
                where = where_of(entry.value or b"")
                if where is not None and where.token > self.token and where.state == "live":
                    return
            await asyncio.sleep(0.1)

    async def _remove(self) -> None:
        """From the daemon, unless it is there for somebody else: this very box may have taken it anew."""
        records = {record.stream: record for record in await self._ground.daemon.streams()}
        record = records.get(self.stream)
        if record is not None and record.owner == str(self.token):
            await self._ground.daemon.remove_stream(self.stream)

    async def _forget_own_bundle(self) -> None:
        """Once the successor has stored its own."""
        with contextlib.suppress(NatsError, TimeoutError):
            claim: Claim | None = decoded((await entry_of(self._ground.buckets.claims, self._key)).value, Claim)
            if claim is not None and claim.bundle is not None and Token.parse(claim.bundle) > self.token:
                await drop_bundle(
                    self._ground.buckets.js, self._ground.buckets.bundles, self.stream, str(self.token)
                )

    async def _end_for_good(self) -> None:
        """Nobody wants the stream any more."""
        await self._remove()
        await self._message.ack()
        await compare_and_delete(self._ground.buckets.claims, self._key, self._claim_revision)
        await compare_and_delete(self._ground.buckets.where, self._key, self._where_revision)
        await drop_bundle(self._ground.buckets.js, self._ground.buckets.bundles, self.stream, str(self.token))
        self.state = "ended"

    # --------------------------------------------------------------------------------------- what others read

    async def _renew(self) -> None:
        """The entry in `where`. Raises Superseded where a newer owner stands in it."""
        self._due_s["renew"] = time.monotonic() + RENEW_S
        where = Where(
            stream=self.stream,
            box=self._ground.box,
            owner=str(self.token),
            control=self._ground.control,
            publish=self._ground.publish(),
            key=self._ground.key,
            state=self._last.state if self._last else "connecting",
        )
        bucket, data = self._ground.buckets.where, msgspec.json.encode(where)
        if self._where_revision:
            revision = await compare_and_set(bucket, self._key, data, self._where_revision)
            if revision is not None:
                self._where_revision = revision
                return
        entry = await entry_of(bucket, self._key)
        there = where_of(entry.value or b"")
        if there is not None and there.token > self.token:
            raise Superseded
        self._where_revision = await compare_and_set(bucket, self._key, data, entry.revision) or 0
        if not self._where_revision:
            self._due_s["renew"] = 0.0  # somebody wrote meanwhile: look again

    async def _save(self) -> None:
        """Store the objects; then answer who waits for that."""
        requests, self._saves = self._saves, []
        self._due_s["save"] = time.monotonic() + SAVE_S
        try:
            stored = await self._ground.daemon.export(self.stream)
            highest = max([one.record.object for one in stored], default=0)
            self._next_object = max(self._next_object, highest + 1)
            bundle = Bundle(stored, self._next_object)
            await put_bundle(self._ground.buckets.bundles, self.stream, self.token, bundle)
            await self._point_at_bundle()
        except BaseException:
            self._saves = requests + self._saves
            self._due_s["save"] = 0.0
            raise
        for request in requests:
            with contextlib.suppress(NatsError):
                await request.respond(str(self.token).encode())

    async def _point_at_bundle(self) -> None:
        """Say that our own bundle is the one that counts, and forget those before. Raises Superseded: then it does
        not."""
        assert self._claim is not None
        if self._claim.bundle == str(self.token):
            entry = await entry_of(self._ground.buckets.claims, self._key)
            if entry.revision != self._claim_revision:
                raise Superseded
            return
        claim = structs.replace(self._claim, bundle=str(self.token), message=None)
        await self._set_claim(claim, self._claim_revision)
        while self._older:
            await drop_bundle(self._ground.buckets.js, self._ground.buckets.bundles, self.stream, self._older.pop())

    async def _see_claim(self, message: Msg) -> None:
        claim: Claim | None = decoded(message.data, Claim)
        if claim is not None and claim.token > self.token:
            self._wish("superseded")

    async def _see_wanted(self, message: Msg) -> None:
        self._wish("gone" if message.headers and "KV-Operation" in message.headers else "verify")

    async def _asked(self, message: Msg) -> None:
        """A client wants to know that what it did is stored."""
        if len(self._saves) < 256:
            self._saves.append(message)
            self._wake.set()

    def _wish(self, what: Literal["give", "restart", "gone", "lost", "verify", "superseded"]) -> None:
        self._wishes.add(what)
        self._wake.set()


def _wanted_of(data: bytes) -> WantedStream:
    wanted: WantedStream | None = decoded(data, WantedStream)
    return wanted or WantedStream(url="-")
