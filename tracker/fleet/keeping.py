"""The objects of a stream that this box owns, stored in NATS under its token."""

import contextlib
import logging
import time
from collections.abc import Callable

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tracker.fleet.buckets import Buckets
from tracker.fleet.bundles import Bundle, drop_bundle, get_bundle, put_bundle
from tracker.fleet.claim import Ownership
from tracker.fleet.daemon_link import Daemon
from tracker.fleet.records import OBJECTS_BLOCK, Claim, Hold
from tracker.protocol.fields import MAX_OBJECT

log = logging.getLogger(__name__)

TRY_AGAIN_S = 0.25  # after a save that failed; twice as long each time, SAVE_S at most: each exports all objects
SAVE_S = 10.0  # between two bundles where nothing changed but the objects' memories
MAX_REQUESTS = 256  # of clients that wait for a change to be stored


class Keeping:
    """`save` when it `is_due`. `next_object`: as in the bundle.

    `hold` is stored with them, for this process when it was restarted.

    `is_whole`: the daemon has gone on with all objects. Until then what was stored last is all that there is of the
    others, and nothing takes its place.
    """

    def __init__(self, buckets: Buckets, daemon: Daemon, ownership: Ownership, hold: Callable[[], Hold]) -> None:
        self.next_object = 1
        self.is_whole = False
        self.due_s = 0.0
        self._buckets = buckets
        self._daemon = daemon
        self._ownership = ownership
        self._hold = hold
        self._pause_s = 0.0
        self._requests: list[Msg] = []
        self._older: set[str] = set()  # tokens whose bundles ours takes the place of

    @property
    def is_due(self) -> bool:
        is_asked = bool(self._requests) and not self._pause_s
        return self.is_whole and (is_asked or time.monotonic() >= self.due_s)

    def saw(self, object_id: int) -> None:
        """The stream has, or had, an object of this id."""
        self.next_object = min(max(self.next_object, object_id + 1), MAX_OBJECT)

    def lost_all(self) -> None:
        """The daemon has the stream no more; it may have given ids that we never heard of."""
        if self.is_whole:
            self._skip()
        self.is_whole = False

    def ask(self, request: Msg) -> None:
        """Somebody wants to know that what there is now is stored."""
        if len(self._requests) < MAX_REQUESTS:
            self._requests.append(request)

    async def of_the_owner_before(self, before: Claim | None) -> Bundle:
        tokens = [text for text in (before.owner, before.bundle) if text] if before else []
        self._older.update(tokens)
        bundle = await self._stored(tokens)
        if before is not None:  # it may go on giving some until we are live
            self._skip()
        return bundle

    async def newest(self) -> Bundle:
        """What was stored last, by us, or by the owner before where we did not yet."""
        bundle = self._ownership.claim.bundle
        return await self._stored([str(self._ownership.token)] + ([bundle] if bundle else []))

    async def save(self) -> None:
        """Store the objects where all are there; then answer who waits for that. Raises Superseded."""
        if not self.is_whole:
            return
        requests, self._requests = self._requests, []
        self.due_s = time.monotonic() + SAVE_S
        try:
            await self._save()
        except BaseException as error:
            self._requests = requests + self._requests
            self.due_s = 0.0
            if isinstance(error, NatsError):
                self._pause(error)
            raise
        self._pause_s = 0.0
        for request in requests:
            with contextlib.suppress(NatsError):
                await request.respond(str(self._ownership.token).encode())

    def _pause(self, error: NatsError) -> None:
        """NATS is full, perhaps for the night."""
        if not self._pause_s:
            log.warning("%s: its objects are not stored: NATS: %s", self._ownership.stream, error)
        self._pause_s = min(max(TRY_AGAIN_S, 2 * self._pause_s), SAVE_S)
        self.due_s = time.monotonic() + self._pause_s

    async def _save(self) -> None:
        stream, token = self._ownership.stream, self._ownership.token
        stored = await self._daemon.export(stream)
        for one in stored:
            self.saw(one.record.object)
        await put_bundle(self._buckets.bundles, stream, token, Bundle(stored, self.next_object))
        await self._ownership.point_at_own_bundle(self._hold())
        while self._older:
            await self._drop(self._older.pop())

    async def forget(self) -> None:
        """Our own."""
        await self._drop(str(self._ownership.token))

    async def forget_what_is_replaced(self) -> None:
        """Our own, once the successor has stored its own, or the stream was removed."""
        with contextlib.suppress(NatsError, TimeoutError):
            if await self._ownership.bundle_is_replaced():
                await self.forget()

    async def _drop(self, token: str) -> None:
        await drop_bundle(self._buckets.js, self._buckets.bundles, self._ownership.stream, token)

    def _skip(self) -> None:
        """Ids that may have been given, and are not stored."""
        self.saw(self.next_object + OBJECTS_BLOCK - 1)

    async def _stored(self, tokens: list[str]) -> Bundle:
        bundle = await get_bundle(self._buckets.js, self._ownership.stream, tokens)
        self.next_object = max(self.next_object, bundle.next_object)
        return bundle
