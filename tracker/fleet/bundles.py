"""A stream's objects as one file in the object store, under the token of the owner who wrote it."""

import asyncio
import base64
import contextlib
import logging
import re
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError, ObjectDeletedError, ObjectNotFoundError
from nats.js.object_store import ObjectStore

from tracker.client.tasks import waited_out
from tracker.errors import TrackerError
from tracker.fleet.reading import (
    MAX_SUBJECTS,
    BadObject,
    all_entries,
    newest_messages,
    stored_data,
    subjects_of,
)
from tracker.fleet.records import BUNDLES, CLAIMS, Claim, bundle_name, decoded
from tracker.protocol.fields import MAX_ITEMS, ObjectId
from tracker.protocol.placement import TOKEN, Token, name_of
from tracker.protocol.records import MovedObject

log = logging.getLogger(__name__)

STOPPED_S = 3.0  # for what is being stored when the box stops
LEFT_FOR = timedelta(minutes=10)  # since the last chunk; a box that stores writes the next one within seconds
CHUNKS = f"$O.{BUNDLES}.C."


class StoredObject(Struct, frozen=True):
    record: MovedObject
    memory: bytes  # a safetensors file, as `objects.export` gives it


class _Record(Struct, frozen=True):
    """Of an object, as nats-py writes it; as much as is needed here."""

    name: str = ""
    nuid: str = ""

    @property
    def is_bundle(self) -> bool:
        return re.match(TOKEN, self.name.rpartition("/")[2]) is not None


class Bundle(Struct, frozen=True):
    objects: Annotated[list[StoredObject], Meta(max_length=MAX_ITEMS)] = []
    next_object: ObjectId = 1  # no object ever had this id or a greater one, but for the greatest that there is


async def put_bundle(store: ObjectStore, stream: str, token: Token, bundle: Bundle) -> None:
    """Wholly, also where we are cancelled: nats-py would leave what it has written, which no record names.

    Raises TrackerError for one that nobody could read again: it would take the place of one that can be read.
    """
    data = msgspec.msgpack.encode(bundle)
    try:
        msgspec.msgpack.decode(data, type=Bundle)
    except ValueError as error:
        raise TrackerError(f"the objects cannot be stored: {error}") from None
    putting = asyncio.ensure_future(store.put(bundle_name(stream, token), data))
    try:
        await asyncio.shield(putting)
    except asyncio.CancelledError:
        try:
            await waited_out(putting, STOPPED_S)
        finally:
            putting.cancel()
        raise


async def get_bundle(js: JetStreamContext, stream: str, tokens: list[str]) -> Bundle:
    """Of the first of these tokens that has one; an empty one where none has."""
    for token in tokens:
        try:
            return msgspec.msgpack.decode(await stored_data(js, BUNDLES, bundle_name(stream, token)), type=Bundle)
        except (NotFoundError, ObjectNotFoundError, ObjectDeletedError):
            continue
        except (BadObject, ValueError, RecursionError) as error:
            log.error("%s: the objects stored by %s cannot be read: %s", stream, token, error)
    return Bundle()


async def drop_bundle(js: JetStreamContext, store: ObjectStore, stream: str, token: str) -> None:
    """With the mark that a deleted object leaves: nothing piles up where streams move for years."""
    name = bundle_name(stream, token)
    with contextlib.suppress(NotFoundError, ObjectNotFoundError, ObjectDeletedError):
        await store.delete(name)
        mark = f"$O.{BUNDLES}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
        await js.purge_stream(f"OBJ_{BUNDLES}", subject=mark)


async def drop_leftovers(js: JetStreamContext) -> int:
    """What boxes had written of bundles when they died, and bundles that no claim names: of streams that people
    removed while no box had them. Returns how many.

    The records are read after the chunks, and the claims after the records: what is recorded in between was
    written of late, as is what a box is writing. By JetStream's clock: its newest message is of now, wherever a
    fleet stores anything.
    """
    stream = f"OBJ_{BUNDLES}"
    chunks = await subjects_of(js, stream, f"{CHUNKS}*")
    records = await newest_messages(js, stream, f"$O.{BUNDLES}.M.*")
    claimed = await _claimed(js)
    if len(records) >= MAX_SUBJECTS:  # not all are told
        return 0
    known = {subject: _record(record) for subject, record in records.items()}
    nameless = set(chunks) - {CHUNKS + record.nuid for record in known.values()}
    written: dict[str, datetime] = {}
    for subject in nameless:
        with contextlib.suppress(NotFoundError):  # it was replaced meanwhile
            written[subject] = _time(await js.get_last_msg(stream, subject))
    now = max([*map(_time, records.values()), *written.values()], default=None)
    unclaimed = [subject for subject, record in known.items() if record.is_bundle and record.name not in claimed]
    written |= {subject: _time(records[subject]) for subject in unclaimed}  # their chunks are nameless next time
    old = [subject for subject, time in written.items() if now is not None and now - time > LEFT_FOR]
    for subject in old:
        await js.purge_stream(stream, subject=subject)
    return len(old)


async def _claimed(js: JetStreamContext) -> set[str]:
    """The bundles that owners have, or go on from."""
    claims = {name_of(key): decoded(data, Claim) for key, data in (await all_entries(js, CLAIMS)).items()}
    return {
        bundle_name(stream, token)
        for stream, claim in claims.items()
        if claim is not None
        for token in (claim.owner, claim.bundle)
        if token is not None
    }


def _time(message: api.RawStreamMsg) -> datetime:
    assert message.time is not None, "JetStream says it of each"
    return message.time


def _record(message: api.RawStreamMsg) -> _Record:
    """An empty one of what others wrote."""
    try:
        return msgspec.json.decode(message.data or b"", type=_Record)
    except (ValueError, RecursionError):
        return _Record()
