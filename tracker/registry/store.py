"""The one writer of the state folder, a thread of its own.

What belongs to a request is written together and before anything else; memories of objects that go on follow one
by one, the newest of each. Where the disk fails, everything goes on without it: callers hear that nothing is
durable, `wants_everything` asks the main loop for all there is, and that is tried again every second.
"""

import errno
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw
from msgspec import structs

from tracker.config import LooksConfig
from tracker.protocol.messages import Event
from tracker.registry.database import Damaged, Database, HistoryQuery
from tracker.registry.folder import MEMORIES, FolderLock, read_file, set_aside
from tracker.registry.rows import Change, DropObject, DropZones, KeptObject, PutLook, PutObject, PutZones, Saved
from tracker.registry.similar import LookKey
from tracker.threads import NamedThread

log = logging.getLogger(__name__)

FAILURES = (apsw.Error, OSError)
MAX_WAITING = 1024  # units; with a disk that hangs, further ones are not durable
MAX_LOOKS = 2048  # not written yet, also while the disk fails; beyond, the oldest are lost
LOOKS = 32  # of one transaction: requests wait for it
MAX_EVENTS = 4096  # not written yet; beyond, the oldest are lost
EVENTS_S = 1.0  # events are written with the next change, at the latest after so long
RETRY_S = 1.0
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
    """`on_failure` is called by the writer: with a text when the disk fails, with None when it is back."""

    def __init__(
        self, folder: Path, history_days: float, history_nbytes: int, looks: LooksConfig | None = None
    ) -> None:
        self.folder = folder
        self.busy_since_s: float | None = None  # a disk that hangs costs what it would keep, not the tracking
        self.saved = Saved([], [])  # what it held when it was opened
        self.on_failure: Callable[[str | None], None] | None = None
        self._history_days, self._history_nbytes = history_days, history_nbytes
        self._looks_config = looks or LooksConfig()
        self._lock = FolderLock(folder)
        self._database: Database | None = None
        self._read = False  # what the folder held at the start is known
        self._failure: str | None = None
        self._looks_failure: str | None = None  # of the last looks: logged once
        self.saves, self.failures = 0, 0  # transactions that went well, and those that did not
        self._retry_s = self._looks_retry_s = 0.0
        self._changed = threading.Condition()  # of everything below; guards it too
        self._units: deque[_Unit] = deque()
        self._memories: dict[tuple[str, int], PutObject] = {}
        self._zones: dict[str, PutZones | DropZones] = {}  # the newest of each stream
        self._looks: OrderedDict[LookKey, PutLook] = OrderedDict()  # the newest of each slot
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._questions: deque[Question] = deque()
        self._due = 0  # questions that came before what was written last
        self._stopping = False
        self._thread = NamedThread(target=self._run, name="registry", daemon=True)

    # -------------------------------------------------------------------------------- before the thread starts

    def open(self) -> None:
        """Lock the folder and read it. Raises ConfigError where another daemon has it; a disk that fails is only
        logged, and tried again later."""
        try:
            self.saved = self._opened()
        except FAILURES as error:
            self._fail(error)

    def memory(self, name: str) -> bytes:
        """A memory file's bytes. Raises OSError."""
        return read_file(self.folder / MEMORIES / name)

    # --------------------------------------------------------------------------------------------- any thread

    def start(self) -> None:
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether nothing reaches the disk now."""
        return self._failure is not None

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
            self._close()
            self._lock.release()
        return True

    @property
    def wants_everything(self) -> bool:
        """Whether the disk failed, and it is time to try it again with all there is."""
        return self._failure is not None and time.monotonic() >= self._retry_s

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
            self._retry_s = time.monotonic() + RETRY_S
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
        with self._changed:
            self._looks[change.look.key] = change
            while len(self._looks) > MAX_LOOKS:
                self._looks.popitem(last=False)
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

            if self._failure is None:
                self._try(look)
            answer(found)

        with self._changed:
            self._questions.append(ask)
            self._changed.notify()

    # ------------------------------------------------------------------------------------- the writer's thread

    def _run(self) -> None:
        trim_s = 0.0
        while self._wait():
            self._write_next()
            self._write_looks()
            self._answer_questions()
            if self._database is not None and time.monotonic() >= trim_s:
                trim_s = time.monotonic() + TRIM_S
                self._try(self._trim)

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
            left = self._units or self._questions or (waiting and self._failure is None)
            return bool(left) or not self._stopping

    def _anything_waits(self) -> bool:
        looks = self._looks and self._failure is None and time.monotonic() >= self._looks_retry_s
        return bool(self._memories or self._zones or looks)

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
        durable = self._failure is None or bool(everything)
        if durable and (changes or events):
            durable = self._try(lambda database: database.apply(changes, events), everything=bool(everything))
            if durable:
                self.saves += 1
                self._forget(events)
        for unit in units:
            if unit.then is not None:
                unit.then(durable)

    def _write_looks(self) -> None:
        """In a transaction of their own, when nobody waits for an answer: no request fails for want of room for a
        look. Those that find none wait."""
        with self._changed:
            pausing = self._failure is not None or time.monotonic() < self._looks_retry_s
            if self._units or pausing or self._database is None:
                return
            looks = list(self._looks.values())[:LOOKS]
        if not looks:
            return
        try:
            # Without anything of others in the log, it can be given back whatever becomes of this.
            self._database.empty_log()
            self._database.apply(list(looks), [])
        except FAILURES as error:
            self._put_looks_off(error)
        except Exception as error:  # noqa: BLE001 - what no disk is to blame for fails each time
            log.warning("%s: %d looks are dropped: %s: %s", self.folder, len(looks), type(error).__name__, error)
            self.failures += 1
            self._forget_looks(looks)
        else:
            self._looks_failure = None
            self._forget_looks(looks)

    def _put_looks_off(self, error: Exception) -> None:
        """Looks could not be written; what their transaction took of the disk is given back."""
        text = f"{type(error).__name__}: {error}"
        if text != self._looks_failure:
            log.warning("%s: looks cannot be kept for now: %s", self.folder, text)
        self._looks_failure = text
        self._looks_retry_s = time.monotonic() + RETRY_S
        self.failures += 1
        try:
            self._opened()
        except Exception as worse:  # noqa: BLE001 - whatever it is, tracking goes on without being saved
            self._close()
            self._fail(worse)

    def _forget_looks(self, looks: list[PutLook]) -> None:
        """They are written; what took a look's place meanwhile is not."""
        with self._changed:
            for change in looks:
                if self._looks.get(change.look.key) is change:
                    del self._looks[change.look.key]

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

    def _try(self, work: Callable[[Database], None], *, everything: bool = False) -> bool:
        """Whether it went well. `everything`: `work` writes all there is, so the folder may be another one now."""
        try:
            self._attempt(work, everything)
        except Exception as error:  # noqa: BLE001 - whatever it is, tracking goes on without being saved
            self._close()
            self._fail(error)
            self.failures += 1
            return False
        if self._failure is not None:
            log.warning("%s can be written again: everything is saved", self.folder)
            self._failure = None
            self._tell(None)
        return True

    def _attempt(self, work: Callable[[Database], None], everything: bool) -> None:
        """On a full disk once more, when SQLite has given back its log."""
        if everything:
            self._opened()
        if self._database is None or not self._lock.still_there():
            raise FileNotFoundError(f"{self.folder} is gone")
        try:
            work(self._database)
        except FAILURES as error:
            if not _is_full(error):
                raise
            self._opened()
            work(self._database)

    def _opened(self) -> Saved:
        self._close()
        if not self._lock.still_there():
            self._lock.acquire()
        for _ in range(2):
            try:
                self._database = Database(self.folder)
                saved = self._database.load()
                if self._thread.is_alive() and not self._read and (saved.streams or saved.objects):
                    raise Damaged("could not be read when the daemon started")
            except Damaged as error:
                self._close()
                log.info("%s: %s: %s", self.folder, error, error.__cause__)
                set_aside(self.folder, str(error))
            else:
                self._read = True
                return saved
        raise OSError("a fresh database is damaged at once")

    def _fail(self, error: Exception) -> None:
        news, self._failure = self._failure is None, f"{type(error).__name__}: {error}"
        self._retry_s = time.monotonic() + RETRY_S
        if news:
            log.error("%s cannot be written, so nothing is saved for now: %s", self.folder, self._failure)
            self._tell(self._failure)

    def _tell(self, failure: str | None) -> None:
        if self.on_failure is not None:
            self.on_failure(failure)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _is_full(error: BaseException | None) -> bool:
    """Whether it is for want of room. A transaction that has ended itself then fails once more when it is ended."""
    if error is None:
        return False
    no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return no_room or isinstance(error, apsw.FullError) or _is_full(error.__context__)
