"""Rows and memory files, changed together: files first, then the rows that name them, in one transaction.

Used by one thread. SQLite is apsw's own: what systems bring is often older than its last fault in WAL.
"""

import contextlib
import logging
import time
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec
from msgspec import Struct

from tracker.protocol.messages import Event
from tracker.registry.folder import DATABASE, MEMORIES, sync_folder, write_synced
from tracker.registry.rows import (
    Change,
    Clear,
    DropObject,
    DropStream,
    DropWatchedLook,
    DropZones,
    KeepWatchedLooks,
    KeptObject,
    PutKept,
    PutLook,
    PutObject,
    PutStream,
    PutWatchedLook,
    PutZones,
    Saved,
    SavedObject,
    SavedStream,
    SavedZones,
)
from tracker.registry.similar import Looks

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Struct)

APPLICATION_ID = 0x74726B64  # "trkd"
VERSION = 2
EVENT_ROW_BYTES = 128  # of an event's row and its indices, beside the record
PAGE_BYTES, LOG_PAGES = 4096, 64  # of the write-ahead log, before it goes into the database: a small disk has room
TRIM = 20  # a twentieth of the history goes when it is full

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE streams (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
    stream TEXT NOT NULL, id INTEGER NOT NULL, record BLOB NOT NULL, memory TEXT NOT NULL, PRIMARY KEY (stream, id)
) WITHOUT ROWID;
CREATE TABLE zones (stream TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, stream TEXT NOT NULL, object INTEGER, record BLOB NOT NULL
);
CREATE INDEX events_time ON events (time);
CREATE INDEX events_stream ON events (stream, id);
CREATE INDEX events_object ON events (stream, object, id);
"""


class Damaged(Exception):
    """The folder holds something that this daemon cannot go on with; the text is the end of a sentence about it."""


class HistoryQuery(Struct, frozen=True):
    stream: str | None
    object: int | None
    since: float | None  # Unix seconds
    limit: int


class Database:
    """Raises Damaged where the file is not a sound one of this program's; apsw.Error and OSError where the disk
    fails, at any call: then close it and open another."""

    def __init__(self, folder: Path) -> None:
        self._memories = folder / MEMORIES
        self._memories.mkdir(mode=0o700, exist_ok=True)
        self._connection = apsw.Connection(str(folder / DATABASE))
        try:
            self._open()
        except (apsw.NotADBError, apsw.CorruptError) as error:
            self.close()
            raise Damaged("is damaged") from error
        except BaseException:
            self.close()
            raise
        sync_folder(folder)

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):
            self.empty_log()  # others may read yet, and keep the file as long as it is
        with contextlib.suppress(apsw.Error):
            self._connection.close()

    def load(self) -> Saved:
        """Everything kept; memory files that no row names are removed."""
        try:
            streams = self._records("streams", SavedStream)
            zones = self._records("zones", SavedZones)
            objects = _kept(self._all("SELECT record, memory FROM objects"))
        except (ValueError, RecursionError) as error:
            raise Damaged("has a row that cannot be read") from error
        self._sweep({kept.memory_file for kept in objects})
        return Saved(streams, objects, zones)

    def _records(self, table: str, kind: type[R]) -> list[R]:
        rows = self._all(f"SELECT record FROM {table}")
        return [msgspec.msgpack.decode(record, type=kind) for (record,) in rows]

    def objects(self, stream: str) -> list[KeptObject]:
        """What is kept of one stream's objects."""
        return _kept(self._all("SELECT record, memory FROM objects WHERE stream = ?", (stream,)))

    def apply(self, changes: list[Change], events: list[Event]) -> None:
        """All of it or nothing, on disk when this returns."""
        written = self._write_memories(changes)
        stale: list[str] = []
        try:
            with self._connection:  # a transaction
                for k, change in enumerate(changes):
                    stale += self._apply(change, written.get(k))
                self._add_events(events)
        except BaseException:
            self._remove(list(written.values()))
            raise
        self._remove(stale)
        if any(isinstance(change, Clear) for change in changes):
            self._sweep({name for (name,) in self._all("SELECT memory FROM objects")})

    def empty_log(self) -> None:
        """Move what the write-ahead log holds into the database, and give back its room."""
        self._all("PRAGMA wal_checkpoint(TRUNCATE)")

    def history(self, query: HistoryQuery) -> list[Event]:
        """Oldest first: from `since` on, or without it the newest."""
        wanted = {"stream = ?": query.stream, "object = ?": query.object}
        if query.since is not None:
            first = self._all("SELECT id FROM events WHERE time >= ? ORDER BY time LIMIT 1", (query.since,))
            if not first:
                return []
            wanted["id >= ?"] = first[0][0]
        conditions = {condition: value for condition, value in wanted.items() if value is not None}
        where = " AND ".join(["1", *conditions])
        order = "DESC" if query.since is None else "ASC"
        sql = f"SELECT record FROM events WHERE {where} ORDER BY id {order} LIMIT ?"
        rows = self._all(sql, (*conditions.values(), query.limit))
        events = [msgspec.msgpack.decode(record, type=Event) for (record,) in rows]
        if query.since is None:
            events.reverse()
        return events

    def trim_looks(self, max_days: float, max_count: int) -> None:
        """Forget the oldest looks."""
        with self._connection:
            self._looks.trim(max_days, max_count)

    def trim_history(self, max_days: float, max_nbytes: int) -> None:
        """Forget the oldest events, beyond so many days or bytes."""
        with self._connection:
            self._all("DELETE FROM events WHERE time < ?", (time.time() - max_days * 86400,))
            count, nbytes = self._all("SELECT count(*), coalesce(sum(length(record)), 0) FROM events")[0]
            if nbytes + count * EVENT_ROW_BYTES > max_nbytes:
                excess = nbytes + count * EVENT_ROW_BYTES - max_nbytes
                mean = (nbytes + count * EVENT_ROW_BYTES) / count
                gone = min(count, int(excess / mean) + count // TRIM + 1)
                self._all("DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?)", (gone,))

    # ------------------------------------------------------------------------------------------------- inside

    def _open(self) -> None:
        """Check the file, or lay out a new one."""
        self._check()
        self._looks = Looks(self._connection)

    def _check(self) -> None:
        self._all("PRAGMA journal_mode = WAL")
        self._all("PRAGMA synchronous = FULL")
        self._all(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        self._all(f"PRAGMA journal_size_limit = {LOG_PAGES * PAGE_BYTES}")
        if not self._one("SELECT count(*) FROM sqlite_schema"):  # it is new
            with self._connection:
                self._connection.execute(_SCHEMA)
            return
        if self._one("PRAGMA application_id") != APPLICATION_ID:
            raise Damaged("is another program's")
        version = self._one("PRAGMA user_version")
        if version != VERSION:
            raise Damaged(f"has version {version}; this daemon reads version {VERSION}")
        found = self._one("PRAGMA quick_check(1)")
        if found != "ok":
            log.error("quick_check says: %s", " ".join(str(found).split())[:200])
            raise Damaged("is damaged")

    def _one(self, sql: str) -> Any:
        """The only value of the only row."""
        ((value,),) = self._all(sql)
        return value

    def _all(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return list(self._connection.execute(sql, values))

    def _write_memories(self, changes: list[Change]) -> dict[int, str]:
        """Files of the changes that have a memory, synced: names by the change's place."""
        written: dict[int, str] = {}
        try:
            for k, change in enumerate(changes):
                if isinstance(change, PutObject) and change.memory is not None:
                    name = f"{change.object.stream}.{change.object.id}.{time.time_ns()}.safetensors"
                    write_synced(self._memories / name, change.memory())
                    written[k] = name
            if written:
                sync_folder(self._memories)
        except BaseException:
            self._remove(list(written.values()))
            raise
        return written

    def _apply(self, change: Change, written: str | None) -> list[str]:
        """Returns the memory files that are of no use any more once it is committed."""
        match change:
            case PutStream(stream):
                self._all("INSERT OR REPLACE INTO streams VALUES (?, ?)", (stream.name, _encoded(stream)))
                return []
            case DropStream(name):
                self._all("DELETE FROM streams WHERE name = ?", (name,))
                return []
            case DropObject(stream, object_id):
                sql = "DELETE FROM objects WHERE stream = ? AND id = ? RETURNING memory"
                return [name for (name,) in self._all(sql, (stream, object_id))]
            case PutKept(kept):
                row = (*kept.saved.key, _encoded(kept.saved), kept.memory_file)
                self._all("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)
                return []
            case PutZones(zones):
                self._all("INSERT OR REPLACE INTO zones VALUES (?, ?)", (zones.stream, _encoded(zones)))
                return []
            case DropZones(stream):
                self._all("DELETE FROM zones WHERE stream = ?", (stream,))
                return []
            case PutLook(look):
                self._looks.put(look)
                return []
            case PutWatchedLook(watched):
                sql = "INSERT OR REPLACE INTO watched_looks VALUES (?, ?)"
                self._all(sql, (watched.id, _encoded(watched)))
                return []
            case DropWatchedLook(watched_id):
                self._all("DELETE FROM watched_looks WHERE id = ?", (watched_id,))
                return []
            case KeepWatchedLooks(ids, last_id):
                sql = "DELETE FROM watched_looks WHERE id <= ? AND id NOT IN (SELECT value FROM json_each(?))"
                self._all(sql, (last_id, msgspec.json.encode(ids).decode()))
                return []
            case Clear():
                self._all("DELETE FROM objects")
                self._all("DELETE FROM streams")
                self._all("DELETE FROM zones")
                return []
            case PutObject():
                return self._put_object(change, written)

    def _put_object(self, change: PutObject, written: str | None) -> list[str]:
        found = self._all("SELECT memory FROM objects WHERE stream = ? AND id = ?", change.object.key)
        before = found[0][0] if found else None
        if before is None and (change.only_if_there or written is None):
            return [written] if written else []
        row = (*change.object.key, _encoded(change.object), written or before)
        self._all("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)
        return [before] if written and before else []

    def _add_events(self, events: list[Event]) -> None:
        for event in events:
            object_id = event.object if isinstance(event.object, int) else None
            row = (event.time, event.stream, object_id, _encoded(event))
            self._all("INSERT INTO events (time, stream, object, record) VALUES (?, ?, ?, ?)", row)

    def _sweep(self, named: set[str]) -> None:
        self._remove([path.name for path in self._memories.iterdir() if path.name not in named])

    def _remove(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                (self._memories / name).unlink()


def _kept(rows: list[tuple[bytes, str]]) -> list[KeptObject]:
    return [KeptObject(msgspec.msgpack.decode(record, type=SavedObject), name) for record, name in rows]


def _encoded(record: Struct) -> bytes:
    return msgspec.msgpack.encode(record)
