"""Saving what the main loop knows. It belongs to the main loop; `registry/store.py` writes, in a thread of its own.

Changes are marked where they happen, and written together when the request that made them is answered, or at the
next tick. What a row says of a stream or an object is `saved_rows.py`'s.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import UNSET, Struct, structs

from tracker.config import Config
from tracker.daemon.saved_rows import StreamRows, object_row
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.registry import memories
from tracker.registry.memories import ModelId
from tracker.registry.rows import (
    Change,
    Clear,
    DropObject,
    DropStream,
    KeptObject,
    PutKept,
    PutObject,
    PutStream,
    SavedStream,
)
from tracker.registry.store import Store
from tracker.tracking.jobs import Requester
from tracker.tracking.state import MAX_GONE, StreamTable, TrackedObject, TrackedStream

log = logging.getLogger(__name__)

STOP_S = 1.0  # for the last save


class Persistence:
    """Without a store nothing is kept, and nothing is durable."""

    def __init__(self, store: Store | None, config: Config, table: StreamTable, engine: Engine) -> None:
        self.store = store
        self.model = ModelId(**{name: engine.describe()[name] for name in ModelId.__struct_fields__})
        self.waiting: dict[tuple[str, int], KeptObject] = {}  # objects whose stream or memory is not there
        self.gone: dict[str, SavedStream] = {}  # streams that are not there: their numbers go on; oldest first
        self.failures: deque[str | None] = deque()  # not told yet; None: the disk works again
        self._config = config
        self._table = table
        self._objects: dict[TrackedObject, None] = {}  # changed since the last write
        self._dropped: list[DropObject | DropStream] = []
        self._streams: dict[str, None] = {}
        self._stream_rows = StreamRows()
        self._written: dict[TrackedObject, ObjectMemory] = {}  # the memory that was handed over last
        self._memories_due_s = 0.0
        self.more: Callable[[], Sequence[Change]] = list  # what others keep, for a folder that begins anew
        self._last_save = threading.Lock()  # taken for good by the thread that saves last
        self._saved_last = threading.Event()  # that was tried
        self._set_aside: queue.SimpleQueue[list[KeptObject] | None] = queue.SimpleQueue()  # from the store's thread
        if store is not None:
            store.on_failure(self.failures.append)

    # ------------------------------------------------------------------------------------------- what changed

    def object_changed(self, obj: TrackedObject) -> None:
        if self.store is not None:
            self._objects[obj] = None

    def object_added(self, obj: TrackedObject) -> None:
        self.object_changed(obj)
        self.stream_changed(obj.stream)  # whose ids are used now

    def object_removed(self, obj: TrackedObject) -> None:
        self._objects.pop(obj, None)
        self._written.pop(obj, None)
        self._drop(obj.stream.name, obj.id)

    def forget_waiting(self, stream: str, object_id: int) -> None:
        """An object that waits is removed."""
        del self.waiting[stream, object_id]
        self._drop(stream, object_id)

    def stream_changed(self, stream: TrackedStream) -> None:
        if self.store is not None:
            self._streams[stream.name] = None

    def stream_added(self, stream: TrackedStream) -> None:
        self.gone.pop(stream.name, None)
        self.stream_changed(stream)

    def stream_removed(self, stream: TrackedStream) -> None:
        """Its objects are forgotten, also those that wait; its numbers are not."""
        if self.store is None:
            return
        for obj in stream.objects.values():
            self.object_removed(obj)
        for name, object_id in [key for key in self.waiting if key[0] == stream.name]:
            self.forget_waiting(name, object_id)
        row = self._row(stream, ahead=False)
        self.gone[stream.name] = structs.replace(row, removed=True, removed_at=time.time())
        self._streams[stream.name] = None
        self.forget_oldest()

    def forget_oldest(self) -> None:
        """Forget removed streams beyond MAX_GONE: names that are used once must not fill the folder."""
        too_many = len(self.gone) - MAX_GONE
        if too_many <= 0:
            return
        for name in [name for name, saved in self.gone.items() if saved.removed][:too_many]:
            del self.gone[name]
            self._streams.pop(name, None)
            self._dropped.append(DropStream(name))

    def stream_set_aside(self, stream: TrackedStream) -> None:
        """It is no longer configured: its objects lie in the folder until it is again."""
        if self.store is None:
            return
        self.gone[stream.name] = self._row(stream, ahead=False)
        self._streams[stream.name] = None
        self._objects |= dict.fromkeys(stream.objects.values())
        self.store.write(self._changes())
        for obj in stream.objects.values():
            self._written.pop(obj, None)
        self.store.kept_objects(stream.name, self._set_aside.put)

    def reconfigure(self, config: Config) -> None:
        self._config = config

    # ------------------------------------------------------------------------------------------------- writing

    def reply(self, request: Requester, result: Struct) -> None:
        """Answer a request: where it changed something, once that is on disk or cannot be had there."""
        says = getattr(result, "durable", UNSET) is not UNSET
        if self.store is None or not (says or self._anything_changed()):
            request.reply(result)
            return

        def answer(durable: bool) -> None:
            request.reply(structs.replace(result, durable=durable) if says else result)

        self.store.write(self._changes(), answer)

    def write_then(self, then: Callable[[], None]) -> None:
        """Call `then()` once what changed is on disk, or cannot be had there."""
        if self.store is None:
            then()
        else:
            self.store.write(self._changes(), lambda _: then())

    def tick(self) -> None:
        """Save what is due."""
        if self.store is None:
            return
        self._take_set_aside()
        for stream in self._table:
            if self._stream_rows.runs_short(stream):
                self.stream_changed(stream)
        if self.store.wants_everything:
            self.store.write(self._everything(), everything=True)
        elif self._anything_changed():
            self.store.write(self._changes())
        self._save_memories()

    def start(self) -> None:
        if self.store is not None:
            self.store.start()

    def stop(self) -> None:
        """Save everything once more, with the exact numbers. Where another thread is at that, wait for it."""
        if self.store is None:
            return
        if not self._last_save.acquire(blocking=False):
            self._saved_last.wait(STOP_S)
            return
        try:
            self._save_last(self.store)
        finally:
            self._saved_last.set()

    def rescue(self) -> None:
        """Save as `stop` does, from another thread: the main loop hangs, or waits for parts that do."""
        try:
            self.stop()
        except Exception:  # what the main loop was about to write is in pieces; what was written before is not
            log.exception("the newest changes could not be saved")

    # ------------------------------------------------------------------------------------------------- helpers

    def _save_last(self, store: Store) -> None:
        self._streams |= dict.fromkeys(stream.name for stream in self._table)
        self._objects |= dict.fromkeys(obj for stream in self._table for obj in stream.objects.values())
        store.write(self._changes(ahead=False))
        try:
            in_time = store.stop(STOP_S)
        except Exception:  # the writer has died, and for want of what it needed: what was written before is there
            log.exception("%s: the newest changes are lost", store.folder)
            return
        if not in_time:
            log.error("%s takes too long to be written: the newest changes may be lost", store.folder)

    def _take_set_aside(self) -> None:
        while not self._set_aside.empty():
            kept = self._set_aside.get()
            if kept is None:
                log.error("the objects of a stream that is no longer configured were lost with the disk")
            else:
                self.waiting |= {k.saved.key: k for k in kept if k.saved.stream not in self._table}

    def _drop(self, stream: str, object_id: int) -> None:
        if self.store is not None:
            self._dropped.append(DropObject(stream, object_id))

    def _anything_changed(self) -> bool:
        return bool(self._objects or self._dropped or self._streams)

    def _changes(self, *, ahead: bool = True) -> list[Change]:
        """Changes since the last call."""
        streams = [PutStream(self._stream_row(name, ahead)) for name in self._streams]
        objects = [self._put(obj) for obj in self._objects]
        changes: list[Change] = [*self._dropped, *streams, *objects]
        self._dropped, self._streams, self._objects = [], {}, {}
        return changes

    def _everything(self) -> list[Change]:
        self._changes()  # is in it
        self._written.clear()
        objects = [obj for stream in self._table for obj in stream.objects.values()]
        rows = [self._row(stream) for stream in self._table] + list(self.gone.values())
        kept = [PutKept(kept) for kept in self.waiting.values()]
        return [Clear(), *map(PutStream, rows), *map(self._put, objects), *kept, *self.more()]

    def _save_memories(self) -> None:
        """Hand over the memories that went on since, every `persist.interval_s`."""
        if self.store is None or time.monotonic() < self._memories_due_s:
            return
        self._memories_due_s = time.monotonic() + self._config.persist.interval_s
        for stream in self._table:
            for obj in stream.objects.values():
                if self._written.get(obj) is not obj.memory:
                    self.store.save_memory(structs.replace(self._put(obj), only_if_there=True))

    def _put(self, obj: TrackedObject) -> PutObject:
        if self._written.get(obj) is obj.memory:
            return PutObject(object_row(obj), None)
        self._written[obj] = obj.memory
        memory, model = memories.slim(obj.memory), self.model
        return PutObject(object_row(obj), lambda: memories.dumps(memory, model))

    def _stream_row(self, name: str, ahead: bool) -> SavedStream:
        return self._row(self._table.stream(name), ahead=ahead) if name in self._table else self.gone[name]

    def _row(self, stream: TrackedStream, *, ahead: bool = True) -> SavedStream:
        return self._stream_rows.row(stream, self._config.streams.get(stream.name), ahead=ahead)
