"""Where the streams of a fleet are, as NATS says. What was known stays known while NATS is away."""

import asyncio
import time

import nats
from nats.aio.msg import Msg
from nats.js.errors import BucketNotFoundError, KeyNotFoundError

from tracker.client.nats_connection import close_nats, connect_nats, not_answered
from tracker.client.nats_options import NatsOptions
from tracker.config import STREAM_NAME
from tracker.config.wording import name_problem
from tracker.errors import ConfigError, Timeout, TrackerError, UnknownStream
from tracker.protocol.placement import SAVE, WHERE, Where, key_of, name_of, where_of

MOVING_S = 5.0  # of a stream that is between two boxes
ANSWER_S = 5.0  # of NATS
SAVED_S = 10.0  # of a box that stores a stream's objects
FOLLOW_S = 0.05  # between two looks whether the stream has moved


class Whereabouts:
    """For one event loop, in which all but `known` is called."""

    def __init__(self) -> None:
        self._found: dict[str, Where | None] = {}  # of the streams that were asked for; None: it was removed
        self._watched: set[str] = set()

    async def connect(self, options: NatsOptions) -> None:
        """Raises ConfigError, and leaves no connection then."""
        self._nats = await connect_nats(options, "tracker client", on_back=self._look_again)
        try:
            self._bucket = await self._nats.jetstream().key_value(WHERE)
        except BucketNotFoundError:
            await close_nats(self._nats)
            raise ConfigError(["there is no fleet in this NATS: start a box first, trackerd fleet serve"]) from None
        except (nats.errors.Error, OSError) as error:
            await close_nats(self._nats)
            raise not_answered(options, error) from None
        except BaseException:  # nobody waits for it any more
            await close_nats(self._nats)
            raise

    async def close(self) -> None:
        await close_nats(self._nats)

    def known(self, stream: str) -> Where:
        """As heard last of a stream that was asked for; in any thread. Raises UnknownStream where it is nowhere."""
        where = self._found.get(stream)
        if where is None:
            raise UnknownStream(f"stream: the fleet has no stream {stream!r}, or it is on no box yet")
        return where

    async def where(self, stream: str) -> Where:
        """Raises UnknownStream where the stream is nowhere, Timeout where NATS does not say."""
        if (problem := name_problem(stream, STREAM_NAME)) is not None:
            raise UnknownStream(f"stream: {stream!r} is no name of a stream: {problem}")
        if stream not in self._found:
            await self._watch(stream)
        return self.known(stream)

    async def moved_from(self, where: Where, why: UnknownStream | Timeout) -> Where:
        """Where the stream is now. Raises UnknownStream where it stays away; after a silent box, its Timeout."""
        try:
            return await self._next_of(where)
        except UnknownStream:
            if isinstance(why, Timeout):
                raise why from None
            raise

    async def _next_of(self, where: Where) -> Where:
        deadline_s = time.monotonic() + MOVING_S
        while time.monotonic() < deadline_s:
            now = await self.where(where.stream)
            if now.token > where.token:
                return now
            await asyncio.sleep(FOLLOW_S)
        raise UnknownStream(f"stream: {where.stream!r} is not on box {where.box} any more, and nowhere else yet")

    async def save(self, where: Where) -> bool:
        """Have the owner store the stream's objects as they are now; False where it does not say that it did."""
        subject = f"{SAVE}.{key_of(where.stream)}.{key_of(where.owner)}"
        try:
            answer = await self._nats.request(subject, b"", timeout=SAVED_S)
        except (nats.errors.Error, TimeoutError):
            return False
        return answer.data == where.owner.encode()

    async def _watch(self, stream: str) -> None:
        """Changes come by a plain subscription to the bucket's subject, which outlives the server."""
        if stream not in self._watched:
            self._watched.add(stream)
            await self._nats.subscribe(f"$KV.{WHERE}.{key_of(stream)}", cb=self._take)
        await self._look(stream)

    async def _look(self, stream: str) -> None:
        try:
            entry = await asyncio.wait_for(self._bucket.get(key_of(stream)), ANSWER_S)
        except KeyNotFoundError:
            self._found.setdefault(stream, None)
        except (nats.errors.Error, TimeoutError):
            raise Timeout(f"NATS does not say where stream {stream!r} is; is it there?") from None
        else:
            self._know(entry.value or b"")

    async def _look_again(self) -> None:
        """NATS was away; what moved meanwhile was not heard."""
        self._looking = asyncio.get_running_loop().create_task(self._look_at_all())

    async def _look_at_all(self) -> None:
        for stream in list(self._found):
            try:
                await self._look(stream)
            except TrackerError:
                return

    async def _take(self, message: Msg) -> None:
        if message.headers and "KV-Operation" in message.headers:
            self._found[name_of(message.subject.rpartition(".")[2])] = None
        else:
            self._know(message.data)

    def _know(self, data: bytes) -> None:
        """Never an older owner after a newer one."""
        where = where_of(data)
        if where is None:
            return
        known = self._found.get(where.stream)
        if known is None or known.token <= where.token:
            self._found[where.stream] = where
