"""The fleet's streams, buckets and object stores in JetStream: made by boxes, opened by all."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nats.aio.client import Client as Nats
from nats.js import JetStreamContext, api
from nats.js.errors import (
    APIError,
    BadRequestError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from tracker.errors import ConfigError
from tracker.fleet.records import (
    BOX_TTL_S,
    BOXES,
    BUNDLES,
    CLAIMS,
    NEEDS,
    ORDERS,
    QUEUE,
    QUEUE_SUBJECT,
    WANTED,
)
from tracker.protocol.placement import WHERE, WHERE_TTL_S

TTL_S: dict[str, float | None] = {
    WANTED: None,
    NEEDS: None,
    CLAIMS: None,
    WHERE: WHERE_TTL_S,
    BOXES: BOX_TTL_S,
    ORDERS: None,
}
# What JetStream answers who makes a stream.
ALREADY_THERE = 10058  # it exists, with other settings
OVERLAPS = 10065  # another has the same subjects; said as well to the slower of two who make the same one at once
MADE_S = 0.5  # by the faster one


@dataclass(frozen=True, slots=True)
class Entry:
    value: bytes | None  # None: there is none
    revision: int  # 0: there is none


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    nats: Nats
    js: JetStreamContext
    wanted: KeyValue
    needs: KeyValue
    claims: KeyValue
    where: KeyValue
    boxes: KeyValue
    orders: KeyValue
    bundles: ObjectStore
    founded: datetime  # by JetStream's clock; another one: NATS has lost what it stored

    @classmethod
    async def open(cls, nats: Nats) -> "Buckets":
        """Raises ConfigError where no box was ever started."""
        js = nats.jetstream()
        try:
            wanted, needs, claims, where, boxes, orders = [await js.key_value(name) for name in TTL_S]
            bundles = await js.object_store(BUNDLES)
            founded = await _founded(js)
        except (NotFoundError, BucketNotFoundError):
            raise ConfigError(
                ["there is no fleet in this NATS yet: start a box first, trackerd fleet serve"]
            ) from None
        return cls(nats, js, wanted, needs, claims, where, boxes, orders, bundles, founded)

    @classmethod
    async def create(cls, nats: Nats, replicas: int) -> "Buckets":
        """Open them; what is not there yet is made."""
        with contextlib.suppress(ConfigError):
            return await cls.open(nats)
        js = nats.jetstream()
        queue = api.StreamConfig(
            name=QUEUE,
            subjects=[f"{QUEUE_SUBJECT}.>"],
            retention=api.RetentionPolicy.WORK_QUEUE,
            max_msgs_per_subject=1,
            num_replicas=replicas,
        )
        await make(js.add_stream, queue)
        for name, ttl_s in TTL_S.items():
            await make(
                js.create_key_value, api.KeyValueConfig(bucket=name, ttl=ttl_s, history=1, replicas=replicas)
            )
        await make(js.create_object_store, BUNDLES, api.ObjectStoreConfig(replicas=replicas))
        return await cls.open(nats)


async def _founded(js: JetStreamContext) -> datetime:
    created = (await js.stream_info(QUEUE)).created
    assert created is not None, "JetStream says it of each"
    return created


async def make(make_it: Callable[..., Awaitable[Any]], *settings: Any) -> None:
    """What is there already, made by another version, stays as it is. Raises APIError where it cannot be made.

    Boxes that start together make it together; whom JetStream then tells of an overlap, asks once more.
    """
    for is_last in (False, True):
        try:
            await make_it(*settings)
            return
        except APIError as error:
            if error.err_code == ALREADY_THERE:
                return
            if error.err_code != OVERLAPS or is_last:
                raise
        await asyncio.sleep(MADE_S)


async def entry_of(bucket: KeyValue, key: str) -> Entry:
    try:
        found = await bucket.get(key)
    except KeyNotFoundError as error:
        deleted = getattr(error, "entry", None)  # its mark has a revision too
        return Entry(None, getattr(deleted, "revision", None) or 0)
    return Entry(found.value, found.revision or 0)


async def compare_and_set(bucket: KeyValue, key: str, value: bytes, revision: int) -> int | None:
    """The new revision; None where somebody else wrote meanwhile. `revision` 0: there was nothing."""
    try:
        return await bucket.update(key, value, last=revision)
    except KeyWrongLastSequenceError:
        return None


async def compare_and_delete(bucket: KeyValue, key: str, revision: int) -> None:
    """Unless somebody else wrote meanwhile: a stream that was removed may be wanted anew, and claimed already.

    Revision 0 is of who never wrote the entry, and has nothing to delete; the client library would not compare it.
    """
    if revision == 0:
        return
    with contextlib.suppress(BadRequestError):
        await bucket.delete(key, last=revision)
