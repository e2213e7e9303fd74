"""A stream of a fleet, wherever it is: its box is looked up in NATS, and followed when the stream moves.

Fencing is here, at the reader: each owner of a stream has a token that stands in all its messages, and after a
message of a newer owner none of an older one is accepted. So a reader never hears two voices, though a box that
was cut off goes on talking.
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
import nats
import zmq
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from tracker.client.client import Subscription
from tracker.client.connection import Identity, subscriber
from tracker.client.messages import Message, Reader, subscriptions
from tracker.client.nats_connection import NatsOptions, connect_nats
from tracker.client.requests import Request
from tracker.errors import BadRequest, ConfigError, Timeout, TrackerError, UnknownStream
from tracker.protocol.keys import KeyPair
from tracker.protocol.placement import SAVE, TOKEN, WHERE, Token, Where, key_of, where_of

T = TypeVar("T")
R = TypeVar("R", bound=Struct)
A = TypeVar("A")

MOVING_S = 5.0  # of a stream that is between two boxes
ANSWER_S = 5.0  # of NATS
SAVED_S = 10.0  # of a box that stores a stream's objects
FOLLOW_S = 0.05  # between two looks whether the stream has moved
NOT_OF_A_FLEET = {
    "streams.add": "say which streams there are with trackerd fleet apply",
    "streams.remove": "say so with trackerd fleet rm",
}


class Directory:
    """Where streams are, as NATS says; kept up to date by a thread of its own. What was known stays known while
    NATS is away. Safe in any thread."""

    def __init__(self, options: NatsOptions) -> None:
        """Raises ConfigError."""
        self._options = options
        self._found: dict[str, Where | None] = {}  # of the streams that were asked for; None: it was removed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)
        self._thread.start()
        try:
            self._run(self._connect())
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        if self._thread.is_alive():
            self._run(self._nats.close())
            self._end()

    def where(self, stream: str) -> Where:
        """Raises UnknownStream where the stream is nowhere."""
        if stream not in self._found:
            self._run(self._watch(stream))
        where = self._found.get(stream)
        if where is None:
            raise UnknownStream(f"stream: the fleet has no stream {stream!r}, or it is on no box yet")
        return where

    def everywhere(self) -> list[Where]:
        """Of all streams, as it is now."""
        return self._run(self._read_all())

    def call(self, ask: Request[R], who: Identity, send: Callable[[Request[R], str, Identity], R]) -> R:
        """Have the box that has the stream answer; its next one, where it moved on the way."""
        stream = stream_of(ask.operation.name, ask.args)
        where = self.where(stream)
        try:
            result = send(ask, where.control, identity_at(who, where))
        except UnknownStream:
            where = self._moved_from(where)
            result = send(ask, where.control, identity_at(who, where))
        if getattr(result, "durable", msgspec.UNSET) is msgspec.UNSET:
            return result
        changes: dict[str, Any] = {"durable": self._run(self._save(where))}
        return msgspec.structs.replace(result, **changes)

    def subscribe(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        who: Identity,
        stream: str | None,
        topics: Iterable[str],
        timeout_s: float | None,
        pick: Callable[[Message], T],
    ) -> "FleetSubscription[T]":
        if stream is None:
            raise ValueError("name a stream: what all boxes publish is in NATS, where they mirror it")
        return FleetSubscription(context, self, who, stream, topics, timeout_s, pick)

    def _moved_from(self, where: Where) -> Where:
        """Where the stream is now. Raises UnknownStream where it stays away."""
        deadline_s = time.monotonic() + MOVING_S
        while time.monotonic() < deadline_s:
            now = self.where(where.stream)
            if now.token > where.token:
                return now
            time.sleep(FOLLOW_S)
        raise UnknownStream(f"stream: {where.stream!r} is not on box {where.box} any more, and nowhere else yet")

    def _run(self, work: Coroutine[Any, Any, A]) -> A:
        """In the directory's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ----------------------------------------------------------------------------------- in the thread of its own

    async def _connect(self) -> None:
        self._nats = await connect_nats(self._options, "tracker client", on_back=self._look_again)
        try:
            self._bucket = await self._nats.jetstream().key_value(WHERE)
        except (NotFoundError, TimeoutError):
            await self._nats.close()
            raise ConfigError(["there is no fleet in this NATS: start a box first, trackerd fleet serve"]) from None

    async def _watch(self, stream: str) -> None:
        """Changes come by a plain subscription to the bucket's subject, which outlives the server."""
        if stream in self._found:
            return
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
        asyncio.get_running_loop().create_task(self._look_at_all())

    async def _look_at_all(self) -> None:
        for stream in list(self._found):
            try:
                await self._look(stream)
            except TrackerError:
                return

    async def _take(self, message: Msg) -> None:
        if message.headers and "KV-Operation" in message.headers:
            self._found[message.subject.rpartition(".")[2].replace("=", ".")] = None
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

    async def _save(self, where: Where) -> bool:
        """Have the owner store the stream's objects as they are now; False where it does not say that it did."""
        subject = f"{SAVE}.{key_of(where.stream)}.{key_of(where.owner)}"
        try:
            answer = await self._nats.request(subject, b"", timeout=SAVED_S)
        except (nats.errors.Error, TimeoutError):
            return False
        return answer.data == where.owner.encode()

    async def _read_all(self) -> list[Where]:
        try:
            keys = await self._bucket.keys()
        except nats.js.errors.NoKeysError:
            return []
        found = [await self._get(self._bucket, key) for key in keys]
        return [where for where in found if where is not None]

    async def _get(self, bucket: KeyValue, key: str) -> Where | None:
        try:
            return where_of((await bucket.get(key)).value or b"")
        except KeyNotFoundError:
            return None


def identity_at(who: Identity, where: Where) -> Identity:
    """Ours towards the daemon that has the stream: it proves itself by the key that its box published.

    Raises ConfigError where it wants a key and we have none.
    """
    if where.key is None:
        return replace(who, key=None)
    if who.key is None:
        raise ConfigError([f"box {where.box} asks for a key: name a key file with key= or TRACKER_KEY"])
    return replace(who, key=KeyPair(who.key.public, who.key.secret, where.key))


def stream_of(operation: str, args: Struct) -> str:
    """The stream that a request is about. Raises BadRequest where a fleet has no answer to it."""
    if operation in NOT_OF_A_FLEET:
        raise BadRequest(f"{operation}: not in a fleet; {NOT_OF_A_FLEET[operation]}")
    stream = getattr(args, "stream", None)
    if stream is None:
        raise BadRequest(
            f"{operation}: in a fleet name the stream; what is asked of one box takes control=, not fleet="
        )
    return str(stream)


@dataclass(eq=False, slots=True)
class _Voice:
    """An owner that is listened to."""

    where: Where
    socket: "zmq.Socket[bytes]"
    reader: Reader


class FleetSubscription(Subscription[T]):
    """Of one stream of a fleet, across its moves: the first message of a new owner says `moved`."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        directory: Directory,
        who: Identity,
        stream: str,
        topics: Iterable[str],
        timeout_s: float | None,
        pick: Callable[[Message], T],
    ) -> None:
        self._context = context
        self._directory = directory
        self._who = who
        self._name = stream
        self._topics: Sequence[str] = tuple(topics)
        self._timeout_s = timeout_s
        self._pick = pick
        self._voices: list[_Voice] = []  # the newest owner last
        self._token: Token | None = None  # of the newest message
        self._heard_s = time.monotonic()
        if "status" in self._topics:
            raise ValueError("'status' is of one daemon, not of a fleet; there are tracks, events, frames/WIDTH")
        subscriptions(stream, self._topics)
        self._follow()

    def close(self) -> None:
        for voice in self._voices:
            voice.socket.close()
        self._voices = []

    def __next__(self) -> T:
        began_s = time.monotonic()
        while True:
            self._follow()
            for voice in self._ready():
                message = self._accepted(voice, voice.reader.read(voice.socket.recv_multipart()))
                if message is not None:
                    return self._pick(message)
            if self._timeout_s is not None and time.monotonic() - began_s > self._timeout_s:
                where = self._voices[-1].where
                raise Timeout(f"no message of {self._name!r} from box {where.box} within {self._timeout_s:g} s")

    def _follow(self) -> None:
        """Listen to the stream's owner, and to the one before until the new one is heard. Raises UnknownStream."""
        where = self._directory.where(self._name)
        if self._voices:
            newest = self._voices[-1].where
            if newest.token > where.token or (newest.token, newest.publish) == (where.token, where.publish):
                return
        who = identity_at(self._who, where)
        socket = subscriber(self._context, where.publish, self._name, self._topics, who)
        self._voices.append(_Voice(where, socket, Reader()))

    def _ready(self) -> list[_Voice]:
        """Who has something to say, the newest owner first."""
        poller = zmq.Poller()
        for voice in self._voices:
            poller.register(voice.socket, zmq.POLLIN)
        ready = dict(poller.poll(round(FOLLOW_S * 1000)))
        return [voice for voice in reversed(self._voices) if voice.socket in ready]

    def _accepted(self, voice: _Voice, message: Message) -> Message | None:
        """The message, unless it is of an owner before the one that was heard last."""
        owner = getattr(message.body, "owner", None)
        if not isinstance(owner, str) or not re.match(TOKEN, owner):
            return None  # of a daemon that was restarted, and serves the stream for nobody
        token = Token.parse(owner)
        if self._token is not None and token < self._token:
            return None
        now_s = time.monotonic()
        if self._token is not None and token > self._token:
            message = replace(message, moved=True, gap_s=now_s - self._heard_s)
        self._token, self._heard_s = token, now_s
        if voice is self._voices[-1]:
            for older in self._voices[:-1]:
                older.socket.close()
            self._voices = [voice]
        return message
