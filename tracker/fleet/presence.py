"""The record of a box in NATS: others see by it that it is there, and it sees whether another is named the same."""

import logging
import time
import uuid
from collections.abc import Callable

import msgspec
from nats.js.kv import KeyValue

from tracker.fleet.buckets import compare_and_set, entry_of
from tracker.fleet.records import BoxRecord, decoded
from tracker.protocol.placement import key_of

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
RIVAL_S = 3 * HEARTBEAT_S  # a rival writes once in each heartbeat, and may just have been slower than we were


class Presence:
    """`renew` it every HEARTBEAT_S."""

    def __init__(self, box: str) -> None:
        self.instance = uuid.uuid4().hex
        self._box = box
        self._revision = 0  # of the record, as written last; 0: not yet
        self._rival_s: float | None = None  # when one was seen last

    @property
    def has_rival(self) -> bool:
        """Whether another box with the same name writes the record as well."""
        return self._rival_s is not None and time.monotonic() - self._rival_s < RIVAL_S

    async def renew(self, boxes: KeyValue, record: Callable[[], BoxRecord]) -> None:
        """Over what was written last; where that is not there any more, see who wrote meanwhile."""
        key = key_of(self._box)
        if self._revision:
            revision = await compare_and_set(boxes, key, msgspec.json.encode(record()), self._revision)
            if revision is not None:
                self._revision = revision
                return
            found: BoxRecord | None = decoded((await entry_of(boxes, key)).value, BoxRecord)
            if found is not None and found.instance != self.instance:  # and it had not merely ended by its age
                if not self.has_rival:
                    log.error("another box is called %s as well: give each its own name", self._box)
                self._rival_s = time.monotonic()
        self._revision = await boxes.put(key, msgspec.json.encode(record()))
