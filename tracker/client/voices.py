"""Fencing at the reader: each owner of a stream has a token that stands in all its messages, and after a message of
a newer owner none of an older one is accepted. So nobody hears two voices, though a box that was cut off talks on.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import msgspec
import zmq
from msgspec import Struct

from tracker.client.connection import Identity, check_allowed, checked_timeout, close_with_monitor, subscriber
from tracker.client.messages import Message, Reader, subscriptions
from tracker.client.requests import Request
from tracker.errors import BadRequest, ConfigError, Timeout, UnknownStream
from tracker.protocol.keys import KeyPair
from tracker.protocol.placement import TOKEN, Token, Where

S = TypeVar("S", bound="zmq.Socket[Any]")
R = TypeVar("R", bound=Struct)

NOT_OF_A_FLEET = {
    "streams.add": "say which streams there are with trackerd fleet apply",
    "streams.remove": "say so with trackerd fleet rm",
}


@dataclass(eq=False, slots=True)
class Voice(Generic[S]):
    """An owner that is listened to."""

    where: Where
    socket: S
    reader: Reader


class Voices(Generic[S]):
    """The owners of one stream that are listened to, the newest last: the one before is kept until the new one is
    heard. The first message of a new owner says `moved`."""

    def __init__(self, context: "zmq.Context[S]", who: Identity, stream: str, topics: Iterable[str]) -> None:
        self._context = context
        self._who = who
        self._stream = stream
        self._topics: Sequence[str] = tuple(topics)
        self._all: list[Voice[S]] = []
        self._token: Token | None = None  # of the newest message
        self._heard_s = time.monotonic()
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True
        for voice in self._all:
            close_with_monitor(voice.socket)
        self._all = []

    def follow(self, where: Where) -> None:
        """Listen to this owner too, where it is a new one, or publishes elsewhere. One whose place is not known yet
        is waited for. Raises ConfigError; Forbidden where the newest one refuses our key."""
        if self._all:
            newest = self._all[-1].where
            check_allowed(self._all[-1].socket, newest.publish)
            if newest.token > where.token or (newest.token, newest.publish) == (where.token, where.publish):
                return
        if self.is_closed or not where.publish:
            return
        who = identity_at(self._who, where)
        socket = subscriber(self._context, where.publish, self._stream, self._topics, who)
        self._all.append(Voice(where, socket, Reader()))

    def newest_first(self) -> list[Voice[S]]:
        return self._all[::-1]

    def accepted(self, voice: Voice[S], parts: list[bytes]) -> Message | None:
        """The message, unless it is of an owner before the one that was heard last."""
        message = voice.reader.read(parts)
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
        if voice is self._all[-1]:
            for older in self._all[:-1]:
                close_with_monitor(older.socket)
            self._all = [voice]
        return message

    def silent(self, timeout_s: float) -> Timeout:
        """What to raise where nothing came for so long."""
        of_whom = f" from box {self._all[-1].where.box}" if self._all else ""
        return Timeout(f"no message of {self._stream!r}{of_whom} within {timeout_s:g} s")


def check_subscription(stream: str | None, topics: Iterable[str], timeout_s: float | None) -> str:
    """The stream. Raises ValueError for what is no topic of a stream of a fleet, BadRequest for no time to wait."""
    if stream is None:
        raise ValueError("name a stream: what all boxes publish is in NATS, where they mirror it")
    if "status" in topics:
        raise ValueError("'status' is of one daemon, not of a fleet; there are tracks, events, frames/WIDTH")
    subscriptions(stream, topics)
    if timeout_s is not None:
        checked_timeout(timeout_s)
    return stream


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


def may_be_asked_again(error: UnknownStream | Timeout, ask: Request[Any]) -> bool:
    """Whether another box may be asked, after one that refused it or was silent: that one may have done it."""
    return isinstance(error, UnknownStream) or ask.operation.reads


def changes_objects(result: Struct) -> bool:
    """Whether a reply is about a change that the fleet must store before it is `durable`."""
    return getattr(result, "durable", msgspec.UNSET) is not msgspec.UNSET


def stored(result: R, durable: bool) -> R:
    """A reply that says whether the fleet has stored the change, instead of the daemon on its disk."""
    changes: dict[str, Any] = {"durable": durable}
    return msgspec.structs.replace(result, **changes)
