"""A stream's objects as one file in the object store, under the token of the owner who wrote it."""

import base64
import contextlib
import logging
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError, ObjectDeletedError, ObjectNotFoundError
from nats.js.object_store import ObjectStore

from tracker.errors import TrackerError
from tracker.fleet.reading import BadObject, stored_data
from tracker.fleet.records import BUNDLES, bundle_name
from tracker.protocol.fields import MAX_ITEMS, ObjectId
from tracker.protocol.placement import Token
from tracker.protocol.records import MovedObject

log = logging.getLogger(__name__)


class StoredObject(Struct, frozen=True):
    record: MovedObject
    memory: bytes  # a safetensors file, as `objects.export` gives it


class Bundle(Struct, frozen=True):
    objects: Annotated[list[StoredObject], Meta(max_length=MAX_ITEMS)] = []
    next_object: ObjectId = 1  # no object ever had this id or a greater one, but for the greatest that there is


async def put_bundle(store: ObjectStore, stream: str, token: Token, bundle: Bundle) -> None:
    """Raises TrackerError for one that nobody could read again: it would take the place of one that can be read."""
    data = msgspec.msgpack.encode(bundle)
    try:
        msgspec.msgpack.decode(data, type=Bundle)
    except ValueError as error:
        raise TrackerError(f"the objects cannot be stored: {error}") from None
    await store.put(bundle_name(stream, token), data)


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
