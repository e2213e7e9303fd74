"""What the owner of a stream does with it: take it up, keep it, hand it on, give it up.

    claiming -> serving -> given away -> ended
                        -> superseded, gone or lost -> ended

Each of these raises Superseded where the stream is another's, and the errors of NATS and of the daemon where they
do not answer: then it is tried again. When what is done is for the lease to say.
"""

import asyncio
import contextlib
import logging
import time
from typing import Literal

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MsgAlreadyAckdError, NoRespondersError

from tracker.errors import BadRequest, DaemonGone, Timeout, TrackerError
from tracker.fleet.buckets import compare_and_set, entry_of
from tracker.fleet.bundles import Bundle
from tracker.fleet.claim import Ownership
from tracker.fleet.ground import Ground
from tracker.fleet.keeping import Keeping
from tracker.fleet.queueing import queue_missing
from tracker.fleet.records import Hold, decoded
from tracker.fleet.serving import Serving
from tracker.fleet.settings import WantedStream, to_json
from tracker.protocol.fields import StreamState
from tracker.protocol.placement import Token, Where, key_of

log = logging.getLogger(__name__)

RENEW_S = 5.0  # of the entry in `where`, which ends after 15 s
HANDED_OVER_S = 10.0  # at most, after somebody else claimed it, until this box stops serving what it gave away
LOOK_S = 0.1  # between two looks whether the successor is live
REFUSED_S = 5.0  # until a stream that this box cannot serve is offered again

UNREADABLE = WantedStream(url="-")  # settings that a later version wrote, or a stranger
CANNOT_READ = "settings that this version cannot read"

State = Literal["claiming", "serving", "given", "ended"]


class Tenure:
    """Of one stream, by one token: `message` is that of the work queue, as it was handed out last."""

    def __init__(self, ground: Ground, stream: str, token: Token, message: Msg) -> None:
        self.state: State = "claiming"
        self.ownership = Ownership(ground.buckets, stream, token)
        self.keeping = Keeping(ground.buckets, ground.daemon, self.ownership, self._hold)
        self.serving = Serving(ground.daemon, ground.turns, stream, token)
        self.renew_due_s = 0.0
        self._ground = ground
        self._stream = stream
        self.message = message
        self._wanted = UNREADABLE
        self._wanted_revision = 0

    @property
    def is_served(self) -> bool:
        """Here, as far as is known."""
        return self.state in ("serving", "given")

    async def begin(self, claimed: asyncio.Event) -> None:
        """Claim the stream and start it in the daemon; `ended` where nobody wants it, or it cannot be served."""
        wanted = await self._settings()
        if wanted is None:
            await self._unqueue()
            self.state = "ended"
            return
        before = await self.ownership.make(self._ground.box)
        claimed.set()
        bundle = await self.keeping.of_the_owner_before(before)
        try:
            await self._serve(wanted, bundle, *self.ownership.first_numbers)
        except TrackerError as error:
            await self._refuse(error)
        else:
            self.state = "serving"

    async def go_on(self, claimed: asyncio.Event) -> None:
        """The daemon has served it on while this process was restarted."""
        hold = await self.ownership.go_on()
        claimed.set()
        await self.message.in_progress()
        self._wanted = decoded(hold.settings.encode(), WantedStream) or self._wanted
        await self.keeping.newest()
        self.keeping.is_whole = True
        self.state = "serving"
        log.info("%s goes on here", self._stream)

    async def stay(self) -> None:
        """What is due: the stream's place is renewed, its objects are stored."""
        if time.monotonic() >= self.renew_due_s:
            await self._renew()
        if self.keeping.is_due:
            await self.keeping.save()

    async def verify(self) -> None:
        """See whether the stream is ours; start it again where its settings changed."""
        await self.ownership.look()
        settings = await self._settings()
        if settings is None:
            await self.end()
            return
        if settings is UNREADABLE:
            log.warning("%s goes on as it is: it has %s", self._stream, CANNOT_READ)
            settings = self._wanted
        if settings.needs != self._wanted.needs:  # then another message says so, and another box hears it
            await self.keeping.save()
            self._wanted = settings
            self.state = "given"
        elif settings != self._wanted or not self.keeping.is_whole:
            await self.keeping.save()
            await self._serve_anew(settings)
        self.renew_due_s = 0.0

    async def refound(self) -> None:
        """NATS has lost what it stored: want the stream as it is here, for whoever takes it to go on with."""
        await self.ownership.refound()
        wanted = self._ground.buckets.wanted  # as somebody wants it again already, it stays
        await compare_and_set(wanted, key_of(self._stream), to_json(self._wanted), 0)
        await self.keeping.save()
        await queue_missing(self._ground.buckets, key_of(self._stream))
        self.state = "given"

    async def restart(self) -> None:
        """The daemon does not serve it any more: it was restarted, or somebody removed the stream there."""
        await self._serve_anew(self._wanted)

    async def give_away(self) -> None:
        """To another box; it is served here until it is live there."""
        if self.state == "serving":
            await self.keeping.save()
            await self._hand_over()
            self.state = "given"

    async def lose(self) -> None:
        """The daemon is gone: whoever pulls next goes on from what was stored last."""
        if self.state == "serving":
            await self._hand_over()
        self.state = "ended"

    async def end(self) -> None:
        """Nobody wants the stream any more."""
        await self.serving.remove()
        await self.ownership.end()
        await self.keeping.forget()
        await self._unqueue()
        self.state = "ended"

    async def withdraw(self) -> None:
        """The stream is another's now, also where the daemon was still starting it."""
        if self.state == "given":
            await self._wait_for_successor()
        if self.is_served:
            log.info("%s is served elsewhere now", self._stream)
        with contextlib.suppress(TrackerError):
            await self.serving.remove()
        await self.keeping.forget_what_is_replaced()

    def _hold(self) -> Hold:
        return Hold(message=self.message.reply, settings=to_json(self._wanted).decode())

    async def _settings(self) -> WantedStream | None:
        """As people want them; None where they want the stream no longer."""
        entry = await entry_of(self._ground.buckets.wanted, key_of(self._stream))
        self._wanted_revision = entry.revision
        if entry.value is None:
            return None
        wanted: WantedStream | None = decoded(entry.value, WantedStream)
        return wanted or UNREADABLE

    async def _serve_anew(self, settings: WantedStream) -> None:
        """In the same daemon, from what was stored last; what it refuses now, is for another box."""
        bundle = await self.keeping.newest()
        first_frame, epoch = await self.ownership.next_block()
        try:
            await self._serve(settings, bundle, first_frame, epoch)
        except (Timeout, DaemonGone):
            raise
        except TrackerError as error:
            await self._refuse(error)

    async def _serve(self, settings: WantedStream, bundle: Bundle, first_frame: int, epoch: int) -> None:
        """Raises TrackerError where the daemon does not take it."""
        if settings is UNREADABLE:
            raise BadRequest(CANNOT_READ)
        self.keeping.is_whole = False
        record = await self.serving.start(settings.config(), first_frame, epoch, self.keeping.next_object)
        await self.ownership.reserve(record)
        why_not = await self.serving.take(bundle)
        self.keeping.is_whole = True
        self._wanted = settings
        await self._renew()
        self._ground.on_served(self._stream, why_not, self._wanted_revision)

    async def _refuse(self, error: TrackerError) -> None:
        """Say why, and leave it to another box."""
        log.warning("%s is not served here: %s", self._stream, error)
        with contextlib.suppress(TrackerError):
            await self.serving.remove()
        await self.ownership.refuse(f"{self._ground.box}: {error}")
        if self.is_served:
            await self._announce("failed")
        self._ground.on_served(self._stream, str(error), self._wanted_revision)
        await self._give_back(REFUSED_S)
        self.state = "ended"

    async def _hand_over(self) -> None:
        """To whoever pulls next, unless somebody has the stream already."""
        await self.ownership.look()
        await self._give_back()

    async def _give_back(self, delay_s: float | None = None) -> None:
        """The message, to whoever pulls next; it may have been given back before."""
        with contextlib.suppress(MsgAlreadyAckdError):
            await self.message.nak(delay_s)

    async def _unqueue(self) -> None:
        """The message, for good. Who wants the stream anew meanwhile may have seen it there, and sent none."""
        done_with = MsgAlreadyAckdError, NoRespondersError  # given back before; its consumer has ended
        with contextlib.suppress(*done_with):
            await self.message.ack_sync()
        if await self._settings() is not None:
            await queue_missing(self._ground.buckets, key_of(self._stream))

    async def _wait_for_successor(self) -> None:
        deadline_s = time.monotonic() + HANDED_OVER_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(NatsError, TimeoutError):
                if await self.ownership.successor_is_live():
                    return
            await asyncio.sleep(LOOK_S)

    async def _renew(self) -> None:
        """The stream's place."""
        self.renew_due_s = time.monotonic() + RENEW_S
        if not await self._announce(self.serving.state):
            self.renew_due_s = 0.0

    async def _announce(self, state: StreamState) -> bool:
        """False where it is to be tried again."""
        where = Where(
            stream=self._stream,
            box=self._ground.box,
            owner=str(self.ownership.token),
            control=self._ground.control,
            publish=self._ground.publish(),
            key=self._ground.key,
            state=state,
        )
        return await self.ownership.announce(where)
