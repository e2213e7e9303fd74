"""What JetStream keeps, read whole: buckets, once or for as long as they change, and objects."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js import JetStreamContext, api
from nats.js.errors import (
    APIError,
    BadObjectMetaError,
    DigestMismatchError,
    LinkIsABucketError,
    NotFoundError,
    ServiceUnavailableError,
)

from tracker.client.nats_connection import NO_JETSTREAM
from tracker.client.tasks import is_cancelled

ASK_AGAIN_S = 1.0
READ_S = 10.0  # until the next entries of a bucket are read, or an object's first bytes
READ_AT_ONCE = 256  # entries
MAX_SUBJECTS = 100_000  # that JetStream tells at once
SLOWEST_BYTES_S = 1e6  # of a network on which an object is waited for

log = logging.getLogger(__name__)

T = TypeVar("T")
Changed = Callable[[str, bytes | None], None]

# What nats-py raises of an object whose record or content others wrote.
UNREADABLE = (BadObjectMetaError, DigestMismatchError, LinkIsABucketError, AttributeError, TypeError, ValueError)


class BadObject(Exception):
    """An object that is stored and cannot be had."""


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """What JetStream says, however long it takes: where it has just started, has no quorum yet or a busy disk, it
    answers late, or not at all, or that it cannot."""
    told = ""
    while True:
        try:
            return await ask()
        except (TimeoutError, NoRespondersError, ServiceUnavailableError) as error:
            why_not = NO_JETSTREAM
            log.debug("NATS: %s", error)
        except APIError as error:
            why_not = f"JetStream refuses: {error.description or error}."
        if is_cancelled():
            raise asyncio.CancelledError
        log.log(logging.DEBUG if why_not == told else logging.WARNING, "%s It is asked until it does.", why_not)
        told = why_not
        await asyncio.sleep(ASK_AGAIN_S)


class View:
    """A bucket's entries as they are now: all of them once, and then each change.

    Changes come by an ordinary subscription to the bucket's subjects, which needs no consumer in the server and
    outlives its restart; `load` again when the connection was lost. Entries that end by their age are not told.
    """

    def __init__(self, nats: Nats, name: str, on_change: Changed | None = None) -> None:
        self.entries: dict[str, bytes] = {}
        self._nats = nats
        self._js = nats.jetstream()
        self._name = name
        self._prefix = f"$KV.{name}."
        self._on_change = on_change
        self._newer: set[str] = set()  # changed while everything is loaded

    async def start(self) -> None:
        await self._nats.subscribe(f"{self._prefix}>", cb=self._take)
        await answered(self.load)

    async def load(self) -> None:
        self._newer.clear()
        found = await all_entries(self._js, self._name)
        for key in (self.entries.keys() | found.keys()) - self._newer:
            self._set(key, found.get(key))

    async def _take(self, message: Msg) -> None:
        key = message.subject.removeprefix(self._prefix)
        self._newer.add(key)
        self._set(key, None if is_deleted(message.headers) else message.data)

    def _set(self, key: str, value: bytes | None) -> None:
        if value == self.entries.get(key):
            return
        if value is None:
            del self.entries[key]
        else:
            self.entries[key] = value
        if self._on_change is not None:
            self._on_change(key, value)


async def all_entries(js: JetStreamContext, name: str, keys: str = ">") -> dict[str, bytes]:
    """Every entry of a bucket, read once. Raises TimeoutError."""
    prefix = f"$KV.{name}."
    found = await newest_messages(js, f"KV_{name}", f"{prefix}{keys}")
    return {
        subject.removeprefix(prefix): message.data or b""
        for subject, message in found.items()
        if not is_deleted(message.headers)
    }


async def newest_messages(js: JetStreamContext, stream: str, subjects: str) -> dict[str, api.RawStreamMsg]:
    """Of each subject, in their order. Raises TimeoutError where nothing more comes for READ_S.

    By plain requests, and not as `KeyValue.watch` reads: that is told nothing of entries which are still on their
    way, waits for ever for the last one where the connection is lost, and makes a consumer, which a cluster may
    place on a server that has just been lost.
    """
    newest: dict[str, api.RawStreamMsg] = {}
    async with asyncio.timeout(READ_S) as silence:
        there = await subjects_of(js, stream, subjects)
        for first in range(0, len(there), READ_AT_ONCE):
            silence.reschedule(asyncio.get_running_loop().time() + READ_S)
            at_once = there[first : first + READ_AT_ONCE]
            messages = await asyncio.gather(*(_newest(js, stream, subject) for subject in at_once))
            newest |= {
                subject: found for subject, found in zip(at_once, messages, strict=True) if found is not None
            }
    return newest


async def subjects_of(js: JetStreamContext, stream: str, subjects: str) -> list[str]:
    """That have messages, of those that match; at most MAX_SUBJECTS."""
    return sorted((await js.stream_info(stream, subjects_filter=subjects)).state.subjects or {})


async def _newest(js: JetStreamContext, stream: str, subject: str) -> api.RawStreamMsg | None:
    """None where it ended by its age, or was purged meanwhile."""
    with contextlib.suppress(NotFoundError):
        return await js.get_last_msg(stream, subject)
    return None


def is_deleted(headers: dict[str, str] | None) -> bool:
    return headers is not None and "KV-Operation" in headers


async def stored_data(js: JetStreamContext, bucket: str, name: str) -> bytes:
    """An object's content. Raises ObjectNotFoundError, BadObject where it is not what its record says, and
    TimeoutError, also where it is replaced while it is read."""
    store = await js.object_store(bucket)
    try:
        info = await store.get_info(name)
        if info.nuid:
            chunks = f"$O.{bucket}.C.{info.nuid}"
            held = (await js.stream_info(f"OBJ_{bucket}", subjects_filter=chunks)).state.subjects or {}
            if held.get(chunks, 0) != info.chunks:  # nats-py would wait for ever for what is not there
                if (await store.get_info(name)).nuid != info.nuid:
                    raise TimeoutError(f"{name!r} was replaced while it was read")
                raise BadObject(f"{name!r} is not whole")
        async with asyncio.timeout(READ_S + (info.size or 0) / SLOWEST_BYTES_S):
            return (await store.get(name)).data or b""
    except UNREADABLE as error:
        raise BadObject(f"{name!r} cannot be read: {error}") from None
