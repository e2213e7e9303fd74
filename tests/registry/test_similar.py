"""Looks in SQLite: the nearest of each object first, filtered, bounded, never mixed with another model's."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from tracker.registry.similar import Look, LookQuery, Looks, opened_for_reading

MODEL = "a" * 64
RED, GREEN, BLUE = np.eye(3, 8, dtype=np.float32)


def look(object_id: int = 1, vector: Any = RED, **fields: Any) -> Look:
    given: dict[str, Any] = {
        "kind": "appearance", "model": MODEL, "stream": "cam", "object": object_id, "slot": 0, "frame": 5,
        "time": 100.0, "box": (1, 2, 3, 4), "label": None, "thumbnail": b"jpeg",
    }  # fmt: skip
    unit = np.asarray(vector, np.float32) / np.linalg.norm(vector)
    return Look(**given | fields, vector=unit.astype(np.float32).tobytes())


def query(vector: Any = RED, **fields: Any) -> LookQuery:
    return LookQuery("appearance", fields.pop("model", MODEL), [look(vector=vector).vector], **fields)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "looks.db"))
    connection.execute("PRAGMA journal_mode = WAL")
    yield connection
    connection.close()


@pytest.fixture
def looks(connection: apsw.Connection) -> Looks:
    return Looks(connection)


def found(looks: Looks, asked: LookQuery) -> list[tuple[str, int, float]]:
    return [(hit.look.stream, hit.look.object, round(hit.score, 3)) for hit in looks.find(asked)]


def test_the_nearest_comes_first_and_each_object_once(looks: Looks) -> None:
    looks.put(look(1, RED))
    looks.put(look(1, RED + 0.1 * BLUE, slot=1))
    looks.put(look(2, RED + GREEN))
    looks.put(look(3, BLUE, stream="other"))
    assert found(looks, query()) == [("cam", 1, 1.0), ("cam", 2, 0.707), ("other", 3, 0.0)]
    (best, *_) = looks.find(query())
    assert (best.look.box, best.look.frame, best.look.thumbnail) == ((1, 2, 3, 4), 5, b"jpeg")


def test_a_slot_holds_one_look(looks: Looks) -> None:
    looks.put(look(1, RED))
    looks.put(look(1, GREEN))
    assert looks.count() == 1
    assert found(looks, query(GREEN)) == [("cam", 1, 1.0)]


@pytest.mark.parametrize(
    ("filters", "objects"),
    [
        ({}, [1, 2, 3]),
        ({"stream": "cam"}, [1, 2]),
        ({"since": 150.0}, [2, 3]),
        ({"until": 250.0}, [1, 2]),
        ({"label": "cat"}, [2]),
        ({"limit": 1}, [1]),
        ({"but": ("cam", 1)}, [2, 3]),
        ({"model": "b" * 64}, []),
    ],
)
def test_filters(looks: Looks, filters: dict[str, Any], objects: list[int]) -> None:
    looks.put(look(1, RED))
    looks.put(look(2, RED + 0.1 * GREEN, time=200.0, label="cat"))
    looks.put(look(3, RED + 0.2 * GREEN, time=300.0, stream="other"))
    assert [object_id for _, object_id, _ in found(looks, query(**filters))] == objects


def test_another_models_looks_are_counted_and_not_compared(looks: Looks) -> None:
    looks.put(look(1))
    looks.put(look(2, model="b" * 64))
    assert [object_id for _, object_id, _ in found(looks, query())] == [1]
    assert looks.left_out("appearance", MODEL) == 1


def test_vectors_come_back(looks: Looks) -> None:
    looks.put(look(1, RED + GREEN, slot=2))
    (kept,) = looks.of_object("appearance", MODEL, "cam", 1)
    assert kept == look(1, RED + GREEN, slot=2)


def test_they_end_by_age_and_by_number(looks: Looks) -> None:
    now_s = time.time()
    for k in range(30):
        looks.put(look(k, RED + 0.01 * k * GREEN, time=now_s - 86400 * k))
    looks.trim(max_days=20.5, max_count=1000)
    assert looks.count() == 21
    looks.trim(max_days=1000, max_count=10)
    assert looks.count() == 10
    assert [object_id for _, object_id, _ in found(looks, query(limit=100))] == list(range(10))


def test_the_file_does_not_grow_where_old_looks_go(
    connection: apsw.Connection, looks: Looks, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)

    def keep(first: int) -> int:
        with connection:
            for k in range(first, first + 1200):
                looks.put(look(k, rng.standard_normal(64), time=float(k), thumbnail=bytes(500)))
            looks.trim(1e9, 1200)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return (tmp_path / "looks.db").stat().st_size

    sizes = [keep(1200 * k) for k in range(6)]
    assert sizes[-1] < 2.5 * sizes[0]
    assert sizes[-1] <= 1.1 * max(sizes[2:4])


def test_it_is_read_beside_the_writer(looks: Looks, tmp_path: Path) -> None:
    looks.put(look(1))
    connection, beside = opened_for_reading(str(tmp_path / "looks.db"))
    assert found(beside, query()) == [("cam", 1, 1.0)]
    with pytest.raises(apsw.ReadOnlyError):
        beside.put(look(2))
    connection.close()
