"""The one writer of the state folder, a thread of its own.

What belongs to a request is written together and before anything else; memories of objects that go on follow one
by one, the newest of each. Where the disk fails, everything goes on without it: callers hear that nothing is
durable, `wants_everything` asks the main loop for all there is, and that is tried again every second.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from tracker.config import LooksConfig
from tracker.protocol.messages import Event
from tracker.registry.database import Database, HistoryQuery
from tracker.registry.disk import Disk
from tracker.registry.folder import MEMORIES, read_file
from tracker.registry.rows import Change, DropObject, DropZones, KeptObject, PutLook, PutObject, PutZones, Saved
from tracker.registry.waiting_looks import WaitingLooks
from tracker.threads import NamedThread

log = logging.getLogger(__name__)

MAX_WAITING = 1024  # units; with a disk that hangs, further ones are not durable
MAX_EVENTS = 4096  # not written yet; beyond, the oldest are lost
EVENTS_S = 1.0  # events are written with the next change, at the latest after so long
TRIM_S = 60.0

Then = Callable[[bool], None]  # told, from the writer's thread, whether it is on disk
Question = Callable[[], None]  # reads, and tells who asked
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Unit:
    changes: list[Change]
    then: Then | None = None
    everything: bool = False  # all there is, tried also while the disk fails


class Store:
    """`looks`: how many looks are kept, and for how long."""

    def __init__(
        self, folder: Path, history_days: float, history_nbytes: int, looks: LooksConfig | None = None
    ) -> None:
        self.folder = folder
        self.busy_since_s: float | None = None  # a disk that hangs costs what it would keep, not the tracking
        self.saved = Saved([], [])  # what it held when it was opened
        self.saves = 0  # transactions that went well
        self._history_days, self._history_nbytes = history_days, history_nbytes
        self._looks_config = looks or LooksConfig()
        self._disk = Disk(folder)
        self._looks = WaitingLooks(self._disk)
        self._changed = threading.Condition()  # of everything below; guards it too
        self._units: deque[_Unit] = deque()
        self._memories: dict[tuple[str, int], PutObject] = {}
        self._zones: dict[str, PutZones | DropZones] = {}  # the newest of each stream
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._questions: deque[Question] = deque()
        self._due = 0  # questions that came before what was written last
        self._stopping = False
        self._thread = NamedThread(target=self._run, name="registry", daemon=True)

    # -------------------------------------------------------------------------------- before the thread starts

    def open(self) -> None:
        """Lock the folder and read it. Raises ConfigError where another daemon has it; a disk that fails is only
        logged, and tried again later."""
        self.saved = self._disk.open()

    def memory(self, name: str) -> bytes:
        """A memory file's bytes. Raises OSError."""
        return read_file(self.folder / MEMORIES / name)

    # --------------------------------------------------------------------------------------------- any thread

    def start(self) -> None:
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether nothing reaches the disk now."""
        return self._disk.failure is not None

    @property
    def failures(self) -> int:
        """Transactions that did not go well."""
        return self._disk.failures + self._looks.failures

    def on_failure(self, tell: Callable[[str | None], None]) -> None:
        """Have the writer call `tell` from its start on: with a text when the disk fails, None when it is back."""
        self._disk.on_failure = tell

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def waiting(self) -> int:
        """Units of changes, and memories."""
        return len(self._units) + len(self._memories)

    def stop(self, timeout_s: float) -> bool:
        """Write what is waiting, and end; returns whether that was possible in time. Where the writer has died, it
        is written by who calls."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        try:
            self._write_next()
        finally:
            self._disk.close()
        return True

    @property
    def wants_everything(self) -> bool:
        """Whether the disk failed, and it is time to try it again with all there is."""
        return self._disk.is_due

    def write(self, changes: list[Change], then: Then | None = None, *, everything: bool = False) -> None:
        """All of the changes together or none; then `then`, after all that was written before."""
        with self._changed:
            full = len(self._units) >= MAX_WAITING
            if not full:
                if everything:
                    self._memories.clear()
                self._units.append(_Unit([self._with_memory(change) for change in changes], then, everything))
                self._changed.notify()
        if everything:
            self._disk.put_off()
        if full and then is not None:
            then(False)

    def _with_memory(self, change: Change) -> Change:
        """A change of an object takes along the memory that waits to be written; a removal takes it away."""
        if isinstance(change, DropObject):
            self._memories.pop((change.stream, change.id), None)
        elif isinstance(change, PutObject):
            waiting = self._memories.pop(change.object.key, None)
            if waiting is not None and change.memory is None:
                return structs.replace(change, memory=waiting.memory)
        return change

    def save_memory(self, change: PutObject) -> None:
        """In the time that requests leave; a newer one of the same object takes its place."""
        with self._changed:
            self._memories[change.object.key] = change
            self._changed.notify()

    def save_zones(self, change: PutZones | DropZones) -> None:
        """With the next transaction; a newer one of the same stream takes its place."""
        with self._changed:
            self._zones[change.stream] = change
            self._changed.notify()

    def save_look(self, change: PutLook) -> None:
        """In the time that requests leave, and once the disk is back where it fails; a newer look takes the place
        of the one that waits for its slot."""
        self._looks.put(change)
        with self._changed:
            self._changed.notify()

    def record(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)

    def history(self, query: HistoryQuery, answer: Callable[[list[Event] | None], None]) -> None:
        self._ask(lambda database: database.history(query), answer)

    def kept_objects(self, stream: str, answer: Callable[[list[KeptObject] | None], None]) -> None:
        self._ask(lambda database: database.objects(stream), answer)

    def _ask(self, read: Callable[[Database], list[T]], answer: Callable[[list[T] | None], None]) -> None:
        """`answer` is called from the writer's thread, once all that happened before is written; with None where
        the folder cannot be read now."""

        def ask() -> None:
            found: list[T] | None = None

            def look(database: Database) -> None:
                nonlocal found
                found = read(database)

            if not self.failed:
                self._disk.attempt(look)
            answer(found)

        with self._changed:
            self._questions.append(ask)
            self._changed.notify()

    # ------------------------------------------------------------------------------------- the writer's thread

    def _run(self) -> None:
        trim_s = 0.0
        while self._wait():
            self._write_next()
            if not self._units:  # nobody waits for an answer
                self._looks.write()
            self._answer_questions()
            if self._disk.database is not None and time.monotonic() >= trim_s:
                trim_s = time.monotonic() + TRIM_S
                self._disk.attempt(self._trim)

    def _trim(self, database: Database) -> None:
        database.trim_history(self._history_days, self._history_nbytes)
        database.trim_looks(self._looks_config.days, self._looks_config.most)

    def _wait(self) -> bool:
        """Until there is something to do; False when it is time to end and nothing is left."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._units or self._anything_waits() or self._questions or self._stopping, EVENTS_S
            )
            waiting = self._anything_waits() or self._events
            left = self._units or self._questions or (waiting and not self.failed)
            return bool(left) or not self._stopping

    def _anything_waits(self) -> bool:
        return bool(self._memories or self._zones or self._looks.is_due)

    def _write_next(self) -> None:
        """One transaction: all units that wait, else one memory; and zones and events so far."""
        with self._changed:
            units = [self._units.popleft() for _ in range(len(self._units))]
            key = next(iter(self._memories), None) if not units else None
            memories: list[Change] = [self._memories.pop(key)] if key is not None else []
            more: list[Change] = [*self._zones.values()]
            self._zones.clear()
            events = list(self._events)
            self._due = len(self._questions)  # what is asked later waits for what happens later
        changes = [change for unit in units for change in unit.changes] + memories
        everything = [k for k, unit in enumerate(units) if unit.everything]
        if everything:  # all that came before is in it
            changes = [change for unit in units[everything[-1] :] for change in unit.changes]
        changes += more
        durable = not self.failed or bool(everything)
        if durable and (changes or events):
            durable = self._disk.attempt(
                lambda database: database.apply(changes, events), everything=bool(everything)
            )
            if durable:
                self.saves += 1
                self._forget(events)
        for unit in units:
            if unit.then is not None:
                unit.then(durable)

    def _forget(self, events: list[Event]) -> None:
        with self._changed:
            for event in events:
                if self._events and self._events[0] is event:
                    self._events.popleft()

    def _answer_questions(self) -> None:
        for _ in range(self._due):
            with self._changed:
                ask = self._questions.popleft()
            ask()
