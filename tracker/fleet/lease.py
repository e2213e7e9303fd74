"""One stream that this box owns: what happens to it, and what the owner does about that, one after the other.

JetStream hands a stream's message to one box at a time, and hands it on when that box falls silent. Its token, the
message's sequence and the delivery count, is made good by compare-and-set in the bucket of claims: of two boxes
that were handed the same stream, the one with the greater token serves it, and the other gives it up. The sequence
counts from the millisecond in which the fleet was founded: tokens grow also where NATS has lost an earlier queue.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tracker.errors import TrackerError
from tracker.fleet.claim import Superseded
from tracker.fleet.ground import Ground
from tracker.fleet.records import CLAIMS, WANTED, Claim, decoded
from tracker.fleet.tenure import Tenure
from tracker.protocol.messages import Event
from tracker.protocol.placement import SAVE, Token, key_of
from tracker.protocol.records import StreamRecord

log = logging.getLogger(__name__)

LOOK_S = 0.5  # at least so often, while it is given away
TRY_AGAIN_S = 0.2

Wish = Literal["superseded", "gone", "lost", "refound", "verify", "restart", "give"]
CHANGES_OBJECTS = {"object_added", "object_refined", "object_removed", "object_expired", "object_failed"}


class Lease:
    """`run` it; meanwhile tell it what happens by its other methods, which return at once."""

    def __init__(self, ground: Ground, stream: str, message: Msg, token: Token | None = None) -> None:
        """`token`: of a claim that this box has made before it was restarted."""
        self.stream = stream
        self.claimed = asyncio.Event()  # or not to be had
        self.token = token or _token_of(message, ground)
        self._is_claimed = token is not None
        self._ground = ground
        self._tenure = Tenure(ground, stream, self.token, message)
        self._wishes: set[Wish] = set()
        self._wake = asyncio.Event()
        self._handlers: dict[Wish, Callable[[], Awaitable[None]]] = {  # in this order
            "superseded": self._be_superseded,
            "gone": self._tenure.end,
            "lost": self._tenure.lose,
            "refound": self._tenure.refound,
            "verify": self._tenure.verify,
            "restart": self._tenure.restart,
            "give": self._tenure.give_away,
        }

    # -------------------------------------------------------------------------------------- told from outside

    @property
    def is_starting(self) -> bool:
        return self._tenure.state == "claiming"

    def is_ours(self, owner: object) -> bool:
        """Whether a message of this owner is one of ours, and the stream still ours as far as is known."""
        return owner == str(self.token) and self._tenure.is_served and "verify" not in self._wishes

    def goes_on_with(self, message: Msg) -> bool:
        """Whether this is the stream's message, handed out again while it is served: servers of NATS that choose a
        new leader may lose for longer than it lasts that it is in progress. The token counts as long as nobody else
        has claimed the stream."""
        if self._tenure.state != "serving" or _token_of(message, self._ground).sequence != self.token.sequence:
            return False
        self._tenure.message = message
        self.verify()
        return True

    def give(self) -> None:
        """Have another box take it; it is served here until one does."""
        self._wish("give")

    def lose(self) -> None:
        """The daemon is gone: hand the stream to another box at once."""
        self._wish("lost")

    def verify(self) -> None:
        """NATS was away, or this process was: see whether the stream is still ours."""
        self._wish("verify")

    def refound(self) -> None:
        """NATS has lost what it stored."""
        self._wish("refound")

    def take_record(self, record: StreamRecord | None) -> None:
        """The stream in the daemon's status; None where it is not in it."""
        if not self._tenure.is_served:
            return
        if self._tenure.serving.heard(record):
            self._renew_soon()
        if self._tenure.serving.is_gone:
            self._tenure.keeping.lost_all()
            self._wish("restart")

    def take_event(self, event: Event) -> None:
        if event.owner != str(self.token):
            return
        keeping = self._tenure.keeping
        if isinstance(event.object, int):
            keeping.saw(event.object)
        if event.event in CHANGES_OBJECTS:
            keeping.due_s = 0.0
            self._wake.set()
        if event.event == "stream_live" and self._tenure.is_served and self._tenure.serving.heard_live():
            self._renew_soon()

    async def in_progress(self) -> None:
        """Keep it from being handed to another box."""
        if self._tenure.state in ("claiming", "serving"):
            with contextlib.suppress(NatsError):
                await self._tenure.message.in_progress()

    # ------------------------------------------------------------------------------------------------- its life

    async def run(self) -> None:
        subscriptions = []
        try:
            for subject, hear in (  # before it is claimed: what happens while it starts is heard as well
                (f"$KV.{CLAIMS}.{key_of(self.stream)}", self._see_claim),
                (f"$KV.{WANTED}.{key_of(self.stream)}", self._see_wanted),
                (f"{SAVE}.{key_of(self.stream)}.{key_of(str(self.token))}", self._asked),
            ):
                subscriptions.append(await self._ground.nats.subscribe(subject, cb=hear))
            await (self._tenure.go_on if self._is_claimed else self._tenure.begin)(self.claimed)
            await self._keep()
        except Superseded:
            await self._tenure.withdraw()
        except (NatsError, TimeoutError, OSError):  # while it began: another box gets it
            if not self._is_claimed:
                await self._tenure.withdraw()
            raise
        finally:
            self._tenure.state = "ended"
            self.claimed.set()
            for subscription in subscriptions:
                with contextlib.suppress(NatsError):
                    await subscription.unsubscribe()

    async def _keep(self) -> None:
        """Until the stream is somebody else's."""
        while self._tenure.state != "ended":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._idle_s())
            self._wake.clear()
            if not self._ground.is_in_the_fleet():
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            try:
                await self._step()
            except (NatsError, TimeoutError, OSError) as error:  # what runs goes on; it is tried again
                log.debug("%s: NATS: %s", self.stream, error)
                await asyncio.sleep(TRY_AGAIN_S)
            except TrackerError as error:  # the daemon is away for a moment, or gone: the box will say so
                log.debug("%s: %s", self.stream, error)
                await asyncio.sleep(TRY_AGAIN_S)

    def _idle_s(self) -> float:
        """Until something is due."""
        due_s = min(self._tenure.keeping.due_s, self._tenure.renew_due_s) - time.monotonic()
        if self._tenure.state == "given":
            due_s = min(due_s, LOOK_S)
        return max(0.05, due_s)

    async def _step(self) -> None:
        """What is wished for, or due; a wish that fails stays."""
        for wish, handle in self._handlers.items():
            if wish not in self._wishes or self._tenure.state == "ended":
                continue
            self._wishes.discard(wish)
            try:
                await handle()
            except (NatsError, TimeoutError, OSError, TrackerError):
                self._wishes.add(wish)
                raise
        if self._tenure.state != "ended":
            await self._tenure.stay()

    async def _be_superseded(self) -> None:
        raise Superseded

    def _renew_soon(self) -> None:
        self._tenure.renew_due_s = 0.0
        self._wake.set()

    async def _see_claim(self, message: Msg) -> None:
        claim: Claim | None = decoded(message.data, Claim)
        if claim is not None and claim.token > self.token:
            self._wish("superseded")

    async def _see_wanted(self, message: Msg) -> None:
        self._wish("gone" if message.headers and "KV-Operation" in message.headers else "verify")

    async def _asked(self, message: Msg) -> None:
        """A client wants to know that what it did is stored."""
        self._tenure.keeping.ask(message)
        self._wake.set()

    def _wish(self, what: Wish) -> None:
        self._wishes.add(what)
        self._wake.set()


def _token_of(message: Msg, ground: Ground) -> Token:
    meta = message.metadata
    return Token(int(ground.founded().timestamp() * 1000) + meta.sequence.stream, meta.num_delivered)
