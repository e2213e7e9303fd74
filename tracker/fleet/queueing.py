"""The work queue of wanted streams: a message for each, and a consumer for each set of needs that streams have.

Boxes make the consumers that they pull from; here they end. A consumer that was removed and made anew would count
its deliveries from one again, which are part of a stream's token: so it goes when the queue holds nothing for it.
"""

import contextlib
import re

import msgspec
from msgspec import Struct
from nats.js import api
from nats.js.errors import BadRequestError, NotFoundError

from tracker.fleet.buckets import Buckets, compare_and_delete, entry_of
from tracker.fleet.reading import all_entries
from tracker.fleet.records import (
    ACK_WAIT_S,
    ANY,
    NEEDS,
    QUEUE,
    QUEUE_SUBJECT,
    WANTED,
    decoded,
    needs_key,
    queue_subject,
)
from tracker.fleet.settings import Labels, WantedStream
from tracker.protocol.placement import key_of

NEEDS_KEY = r"^[0-9a-f]{16}\Z"


class Needy(Struct):
    """A wanted stream, as much of it as is needed here: a later version may say more."""

    needs: Labels = {}


def consumer_of(needs: str) -> api.ConsumerConfig:
    """By the key of the needs: who has what is needed pulls from it."""
    return api.ConsumerConfig(
        name=needs,
        durable_name=needs,
        filter_subject=f"{QUEUE_SUBJECT}.{needs}.>",
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=-1,
        max_waiting=4096,
    )


async def queue_missing(buckets: Buckets, keys: str = ">") -> None:
    """A message for each wanted stream that has none: new ones, and those of an `apply` that was cut short.

    The entry of their needs is written first, also where it is there: who is about to delete it, since no stream
    had them, sees that by its revision.
    """
    queued = await _queued(buckets, f"{QUEUE_SUBJECT}.>")
    known = await all_entries(buckets.js, NEEDS)
    missing: list[str] = []
    unknown: dict[str, bytes] = {}
    for key, data in (await all_entries(buckets.js, WANTED, keys)).items():
        settings: Needy | None = decoded(data, Needy)
        if settings is None:
            continue
        needs, needs_data = needs_key(settings.needs), msgspec.json.encode(settings.needs)
        subject = f"{QUEUE_SUBJECT}.{needs}.{key}"
        if subject not in queued:
            missing.append(subject)
        if needs != ANY and (subject not in queued or known.get(needs) != needs_data):
            unknown[needs] = needs_data
    for needs, needs_data in unknown.items():
        await buckets.needs.put(needs, needs_data)
    for subject in missing:
        await buckets.js.publish(subject, b"")


async def forget_other_subjects(buckets: Buckets, stream: str, settings: WantedStream) -> None:
    """Where the needs changed, boxes are to hear of the stream by its new ones alone."""
    for subject in await _queued(buckets, f"{QUEUE_SUBJECT}.*.{key_of(stream)}"):
        if subject != queue_subject(stream, settings.needs):
            await _drop(buckets, subject)


async def unqueue(buckets: Buckets, stream: str) -> None:
    for subject in await _queued(buckets, f"{QUEUE_SUBJECT}.*.{key_of(stream)}"):
        await _drop(buckets, subject)


async def _drop(buckets: Buckets, subject: str) -> None:
    """The message as it is now: a later one is of somebody who wants the stream anew.

    By its number, and not by a purge of the subject: by that, JetStream (2.9.10) forgets that other messages of the
    same consumer are in progress, and when their box dies it hands them to nobody.
    """
    with contextlib.suppress(NotFoundError, BadRequestError):  # somebody else took it away
        message = await buckets.js.get_last_msg(QUEUE, subject)
        await buckets.js.delete_msg(QUEUE, message.seq or 0)


async def forget_needs(buckets: Buckets) -> None:
    """What no wanted stream needs any more: boxes stop pulling for it, and its consumer ends."""
    known = {key: data for key, data in (await all_entries(buckets.js, NEEDS)).items() if re.match(NEEDS_KEY, key)}
    revisions = {key: (await entry_of(buckets.needs, key)).revision for key in known}
    wanted = await _wanted_needs(buckets)  # after the revisions: who wants a stream meanwhile writes its needs anew
    surplus = revisions.keys() - wanted
    for key in surplus:
        await compare_and_delete(buckets.needs, key, revisions[key])
    wanted = await _wanted_needs(buckets) if surplus else wanted
    for key in surplus & wanted:  # or he saw them, and did not
        await buckets.needs.put(key, known[key])
    for consumer in await _consumers(buckets):
        if consumer not in wanted and await _is_idle(buckets, consumer):
            with contextlib.suppress(NotFoundError):  # somebody else did it
                await buckets.js.delete_consumer(QUEUE, consumer)


async def _wanted_needs(buckets: Buckets) -> set[str]:
    found = [decoded(data, Needy) for data in (await all_entries(buckets.js, WANTED)).values()]
    return {needs_key(settings.needs) for settings in found if settings is not None}


async def _consumers(buckets: Buckets) -> list[str]:
    """Those of needs, by the key of these."""
    names: list[str] = []
    while infos := await buckets.js.consumers_info(QUEUE, offset=len(names)):
        names += [info.name for info in infos]
    return [name for name in names if re.match(NEEDS_KEY, name)]


async def _is_idle(buckets: Buckets, needs: str) -> bool:
    """Nobody has written of these needs, and nothing is queued for who has them."""
    if (await entry_of(buckets.needs, needs)).value is not None:
        return False
    return not await _queued(buckets, f"{QUEUE_SUBJECT}.{needs}.>")


async def _queued(buckets: Buckets, subjects: str) -> set[str]:
    info = await buckets.js.stream_info(QUEUE, subjects_filter=subjects)
    return set(info.state.subjects or {})
