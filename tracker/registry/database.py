"""Rows and memory files, changed together: files first, then the rows that name them, in one transaction.

Used by one thread. SQLite is apsw's own: what systems bring is often older than its last fault in WAL.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from tracker.protocol.replies import Event
from tracker.registry.folder import DATABASE, MEMORIES, sync_folder, write_synced
from tracker.registry.rows import (
    Change,
    Clear,
    DropObject,
    DropWatchedLook,
    DropZones,
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

APPLICATION_ID = 0x74726B64  # "trkd"
VERSION = 2
EVENT_ROW_BYTES = 128  # of an event's row and its indices, beside the record
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
            self._connection.close()

    def load(self) -> Saved:
        """Everything kept; memory files that no row names are removed."""
        try:
            streams = [
                msgspec.msgpack.decode(r, type=SavedStream) for (r,) in self._all("SELECT record FROM streams")
            ]
            objects = _kept(self._all("SELECT record, memory FROM objects"))
            zones = [msgspec.msgpack.decode(r, type=SavedZones) for (r,) in self._all("SELECT record FROM zones")]
        except msgspec.DecodeError as error:
            raise Damaged("has a row that cannot be read") from error
        self._sweep({kept.memory_file for kept in objects})
        return Saved(streams, objects, zones)

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

    def history(self, query: HistoryQuery) -> list[Event]:
        """Oldest first: from `since` on, or without it the newest."""
        conditions = ["1"]
        values: list[Any] = []
        if query.stream is not None:
            conditions.append("stream = ?")
            values.append(query.stream)
        if query.object is not None:
            conditions.append("object = ?")
            values.append(query.object)
        if query.since is not None:
            first = self._all("SELECT id FROM events WHERE time >= ? ORDER BY time LIMIT 1", (query.since,))
            if not first:
                return []
            conditions.append("id >= ?")
            values.append(first[0][0])
        order = "DESC" if query.since is None else "ASC"
        sql = f"SELECT record FROM events WHERE {' AND '.join(conditions)} ORDER BY id {order} LIMIT ?"
        events = [msgspec.msgpack.decode(r, type=Event) for (r,) in self._all(sql, (*values, query.limit))]
        return events if query.since is not None else events[::-1]

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
        self._all("PRAGMA journal_size_limit = 4194304")
        tables = self._all("SELECT count(*) FROM sqlite_schema")[0][0]
        if not tables:
            with self._connection:
                self._connection.execute(_SCHEMA)
            return
        if self._all("PRAGMA application_id")[0][0] != APPLICATION_ID:
            raise Damaged("is another program's")
        if (version := self._all("PRAGMA user_version")[0][0]) != VERSION:
            raise Damaged(f"has version {version}; this daemon reads version {VERSION}")
        if (found := self._all("PRAGMA quick_check(1)")[0][0]) != "ok":
            raise Damaged(f"is damaged ({' '.join(str(found).split())[:200]})")

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
