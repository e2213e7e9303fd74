"""Looks of objects and their vectors, in SQLite by sqlite-vec: what was alike, and where and when it was.

Vectors of one kind and one model are in a table of their own and never mixed. They are floats: whole numbers of
eight bits lost a fifth of what should be found. One connection writes; others may read beside it.
"""

import hashlib
import time
from typing import Any

import apsw
import msgspec
import numpy as np
import sqlite_vec
from msgspec import Struct, structs

from tracker.masks.types import F32

MAX_FOUND = 4096  # vectors taken into account for one query
MOST_OF_ONE = 9  # looks that are kept of one object
# Vectors that the database makes room for at once, in each stream: the first look of a stream takes that much of
# the disk. Larger chunks are searched no faster, and filled more slowly.
CHUNK = 128
TRIM = 20  # a twentieth goes when it is full

_SCHEMA = """
CREATE TABLE IF NOT EXISTS looks (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, model TEXT NOT NULL, stream TEXT NOT NULL, object INTEGER NOT NULL,
    slot INTEGER NOT NULL, frame INTEGER NOT NULL, time REAL NOT NULL, label TEXT NOT NULL, box TEXT NOT NULL,
    thumbnail BLOB NOT NULL, UNIQUE (kind, model, stream, object, slot)
);
CREATE INDEX IF NOT EXISTS looks_time ON looks (time);
CREATE TABLE IF NOT EXISTS watched_looks (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
"""


LookKey = tuple[str, str, str, int, int]  # kind, model, stream, object, slot


class Look(Struct, frozen=True):
    """What an object looked like once. `slot` numbers the looks that are kept of it."""

    kind: str
    model: str  # its weights' hash
    stream: str
    object: int
    slot: int
    frame: int
    time: float  # Unix seconds
    box: tuple[int, int, int, int]
    label: str | None
    thumbnail: bytes  # JPEG
    vector: bytes  # float32, of length 1

    @property
    def key(self) -> LookKey:
        return self.kind, self.model, self.stream, self.object, self.slot

    @property
    def vector_c(self) -> F32:
        return np.frombuffer(self.vector, np.float32)


class LookQuery(Struct, frozen=True):
    """Looks of one kind and model; the nearest to any of the vectors come first, one of each object."""

    kind: str
    model: str
    vectors: list[bytes]
    limit: int = 20
    stream: str | None = None
    since: float | None = None
    until: float | None = None
    label: str | None = None
    most_of_one: int = MOST_OF_ONE
    but: tuple[str, int] | None = None  # an object that is not to be found: itself


class LookHit(Struct, frozen=True):
    score: float  # cosine of the angle between both vectors, 1 is the same
    look: Look


class WatchedLook(Struct, frozen=True):
    """A look that is waited for."""

    id: int
    name: str
    threshold: float
    time: float  # when it was added
    kind: str
    model: str
    thumbnail: bytes
    vector: bytes


class Looks:
    """Looks in one database. Raises apsw.Error at any call."""

    def __init__(self, connection: apsw.Connection, *, read_only: bool = False) -> None:
        self._connection = connection
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        connection.enable_load_extension(False)
        if not read_only:
            connection.execute(_SCHEMA)

    def put(self, look: Look) -> None:
        """Keep a look; the one that had its slot goes. Called inside a transaction."""
        key = look.key
        found = self._all("SELECT id FROM looks WHERE kind=? AND model=? AND stream=? AND object=? AND slot=?", key)
        self._remove([row for (row,) in found])
        row = (*key, look.frame, look.time, look.label or "", _text(look.box), look.thumbnail)
        columns = "kind, model, stream, object, slot, frame, time, label, box, thumbnail"
        sql = f"INSERT INTO looks ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"
        row_id = self._all(sql, row)[0][0]
        table = self._table(look.kind, look.model, len(look.vector) // 4)
        vector_row = (row_id, look.stream, look.time, look.label or "", look.vector)
        self._all(f"INSERT INTO {table} (rowid, stream, time, label, vector) VALUES (?, ?, ?, ?, ?)", vector_row)

    def find(self, query: LookQuery) -> list[LookHit]:
        """Best first."""
        table = _table_name(query.kind, query.model)
        if not self._all("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)):
            return []
        best: dict[int, float] = {}
        for vector in query.vectors:
            for row_id, distance in self._nearest(table, query, vector):
                cosine = 1.0 - distance**2 / 2.0  # of vectors of length 1; distances are what is computed fastest
                best[row_id] = max(best.get(row_id, -1.0), cosine)
        hits: list[LookHit] = []
        objects = set() if query.but is None else {query.but}
        for row_id in sorted(best, key=lambda row_id: -best[row_id]):
            look = self._look(row_id)
            if look is not None and (look.stream, look.object) not in objects:
                objects.add((look.stream, look.object))
                hits.append(LookHit(best[row_id], look))
                if len(hits) == query.limit:
                    break
        return hits

    def of_object(self, kind: str, model: str, stream: str, object_id: int) -> list[Look]:
        """What is kept of an object, with its vectors."""
        rows = self._all(
            "SELECT id FROM looks WHERE kind=? AND model=? AND stream=? AND object=? ORDER BY slot",
            (kind, model, stream, object_id),
        )
        table = _table_name(kind, model)
        looks = []
        for (row_id,) in rows:
            look = self._look(row_id)
            vector = self._all(f"SELECT vector FROM {table} WHERE rowid = ?", (row_id,))
            if look is not None and vector:
                looks.append(structs.replace(look, vector=vector[0][0]))
        return looks

    def watched(self) -> list[WatchedLook]:
        rows = self._all("SELECT record FROM watched_looks ORDER BY id")
        return [msgspec.msgpack.decode(record, type=WatchedLook) for (record,) in rows]

    def left_out(self, kind: str, model: str) -> int:
        """How many looks of that kind are another model's, and cannot be compared."""
        found = self._all("SELECT count(*) FROM looks WHERE kind = ? AND model != ?", (kind, model))
        return int(found[0][0])

    def count(self) -> int:
        return int(self._all("SELECT count(*) FROM looks")[0][0])

    def trim(self, max_days: float, max_count: int) -> None:
        """Forget what is too old, and the oldest where there are too many."""
        too_old = self._all("SELECT id FROM looks WHERE time < ?", (time.time() - max_days * 86400,))
        self._remove([row for (row,) in too_old])
        excess = self.count() - max_count
        if excess > 0:
            sql = "SELECT id FROM looks ORDER BY time LIMIT ?"
            self._remove([row for (row,) in self._all(sql, (excess + max_count // TRIM,))])

    def _nearest(self, table: str, query: LookQuery, vector: bytes) -> list[tuple[int, float]]:
        conditions, values = (
            ["vector MATCH ?", "k = ?"],
            [vector, min(MAX_FOUND, query.most_of_one * (query.limit + 1))],
        )
        given = {"stream =": query.stream, "time >=": query.since, "time <=": query.until, "label =": query.label}
        for condition, value in given.items():
            if value is not None:
                conditions.append(f"{condition} ?")
                values.append(value)
        sql = f"SELECT rowid, distance FROM {table} WHERE {' AND '.join(conditions)}"
        return [(int(row_id), float(distance)) for row_id, distance in self._all(sql, tuple(values))]

    def _look(self, row_id: int) -> Look | None:
        columns = "kind, model, stream, object, slot, frame, time, box, label, thumbnail"
        rows = self._all(f"SELECT {columns} FROM looks WHERE id = ?", (row_id,))
        if not rows:
            return None
        kind, model, stream, object_id, slot, frame, when, box, label, thumbnail = rows[0]
        x1, y1, x2, y2 = map(int, box.split(","))
        bounds = x1, y1, x2, y2
        return Look(kind, model, stream, object_id, slot, frame, when, bounds, label or None, thumbnail, vector=b"")

    def _remove(self, row_ids: list[int]) -> None:
        for row_id in row_ids:
            found = self._all("DELETE FROM looks WHERE id = ? RETURNING kind, model", (row_id,))
            for kind, model in found:
                self._all(f"DELETE FROM {_table_name(kind, model)} WHERE rowid = ?", (row_id,))

    def _table(self, kind: str, model: str, dimensions: int) -> str:
        table = _table_name(kind, model)
        self._all(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING vec0("
            f"stream TEXT PARTITION KEY, time FLOAT, label TEXT, vector FLOAT[{dimensions}], chunk_size={CHUNK})"
        )
        return table

    def _all(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return list(self._connection.execute(sql, values))


def model_key(about: dict[str, Any]) -> str:
    """What vectors can be compared: those of the same weights at the same size."""
    weights = about["sha256"] or about["name"]
    return hashlib.sha256(f"{weights} {about['image_size']}".encode()).hexdigest()


def opened_for_reading(path: str) -> tuple[apsw.Connection, Looks]:
    """Beside the connection that writes. Raises apsw.Error."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection, Looks(connection, read_only=True)
    except BaseException:
        connection.close()
        raise


def _table_name(kind: str, model: str) -> str:
    return f"looks_{kind}_{model[:16]}"


def _text(box: tuple[int, int, int, int]) -> str:
    return ",".join(map(str, box))
