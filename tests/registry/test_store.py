"""The state folder: what is acknowledged is there after whatever happens to the process, the disk or the files."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import numpy as np
import pytest
from msgspec import structs

from helpers.tracking import wait_until
from tracker.config import StreamConfig
from tracker.errors import ConfigError
from tracker.protocol.fields import EventName
from tracker.protocol.messages import Event
from tracker.registry.database import Database, HistoryQuery
from tracker.registry.folder import DATABASE, FolderLock, read_file
from tracker.registry.rows import (
    Change,
    Clear,
    DropObject,
    KeepWatchedLooks,
    PutLook,
    PutObject,
    PutStream,
    PutWatchedLook,
    Saved,
    SavedObject,
    SavedStream,
)
from tracker.registry.similar import Look, WatchedLook
from tracker.registry.store import Store

CAM = SavedStream("cam", StreamConfig(url="rtsp://camera"), 100, 2, [(1, 8)])


def saved(object_id: int, **fields: object) -> SavedObject:
    obj = SavedObject("cam", object_id, 7, (640, 480), "forklift", {"a": 1}, None, 3, None)
    return structs.replace(obj, **fields)


def put(object_id: int, memory: bytes | None = b"memory", **fields: object) -> PutObject:
    return PutObject(saved(object_id, **fields), None if memory is None else lambda: memory)


def event(name: EventName = "object_added", stream: str = "cam", object_id: int = 1, time_s: float = 0.0) -> Event:
    return Event(
        event=name, stream=stream, frame=1, epoch=0, time=time_s or time.time(), object=object_id, label=None
    )


@contextmanager
def opened(folder: Path, history_days: float = 30, history_nbytes: int = 2**20) -> Iterator[tuple[Store, Saved]]:
    store = Store(folder, history_days, history_nbytes)
    store.open()
    store.start()
    try:
        yield store, store.saved
    finally:
        assert store.stop(30)


def written(store: Store, *changes: Change, everything: bool = False) -> bool:
    """Whether they are on disk."""
    done = threading.Event()
    durable: list[bool] = []

    def then(ok: bool) -> None:
        durable.append(ok)
        done.set()

    store.write(list(changes), then, everything=everything)
    assert done.wait(30)
    return durable[0]


def history(store: Store, **query: object) -> list[Event]:
    answers: list[list[Event] | None] = []
    store.history(structs.replace(HistoryQuery(None, None, None, 100), **query), answers.append)
    wait_until(lambda: answers)
    assert answers[0] is not None
    return answers[0]


def files(folder: Path) -> set[str]:
    return {p.name.rsplit(".", 2)[0] for p in (folder / "memories").iterdir()}


def read(folder: Path) -> Saved:
    with opened(folder) as (_, found):
        return found


def test_rows_and_memories_come_back(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, found):
        assert found == Saved([], [])
        assert written(store, PutStream(CAM), put(1), put(2, label=None, lost_for_s=1.5))
    with opened(tmp_path) as (store, found):
        assert found.streams == [CAM]
        assert [kept.saved for kept in found.objects] == [saved(1), saved(2, label=None, lost_for_s=1.5)]
        assert store.memory(found.objects[0].memory_file) == b"memory"


def test_a_change_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, _):
        assert written(store, put(1), put(2), put(3))
        assert written(store, put(1, None, label="pallet"), put(2, b"newer"), DropObject("cam", 3))
    with opened(tmp_path) as (store, found):
        assert [kept.saved.label for kept in found.objects] == ["pallet", "forklift"]
        assert [store.memory(kept.memory_file) for kept in found.objects] == [b"memory", b"newer"]
        assert len(list((tmp_path / "memories").iterdir())) == 2


def test_a_memory_saved_late_never_brings_back_a_removed_object(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, _):
        assert written(store, put(1))
        assert written(store, DropObject("cam", 1))
        store.save_memory(PutObject(saved(1), lambda: b"late", only_if_there=True))
    assert read(tmp_path).objects == []
    assert files(tmp_path) == set()


def test_all_of_a_unit_or_nothing(tmp_path: Path) -> None:
    def fails() -> bytes:
        raise OSError("no room")

    with opened(tmp_path) as (store, _):
        assert not written(store, put(1), put(2), PutObject(saved(3), fails))
    assert read(tmp_path).objects == []
    assert files(tmp_path) == set()


def test_only_one_daemon_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigError, match="in use by another daemon"):
        Store(tmp_path, 30, 2**20).open()
    assert read(tmp_path) == Saved([], [])


def test_the_lock_follows_no_link_and_truncates_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock").symlink_to(victim)
    lock = FolderLock(tmp_path / "state")
    with pytest.raises(OSError, match="symbolic links"):
        lock.acquire()
    assert victim.read_text() == "precious"


# ------------------------------------------------------------------------------------------ damaged and foreign


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    path.write_bytes(data)


def _foreign(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE songs (name)")
    connection.close()


def _pragma(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        connection = apsw.Connection(str(path))
        connection.execute(statement)
        connection.close()

    return change


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_text("hello " * 1000), "is damaged"),
    "cut off": (_truncated, "is damaged"),
    "overwritten": (_overwritten, "is damaged"),
    "another program's": (_foreign, "another program's"),
    "a later version's": (_pragma("PRAGMA user_version = 99"), "has version 99"),
    "a row of rubbish": (_pragma("UPDATE objects SET record = x'c1'"), "a row that cannot be read"),
    "a row without text": (_pragma("UPDATE objects SET record = x'81a1ffa1ff'"), "a row that cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    damage, says = DAMAGE[name]
    with opened(tmp_path) as (store, _):
        assert written(store, PutStream(CAM), put(1), put(2))
    damage(tmp_path / "state.db")
    with opened(tmp_path) as (store, found):
        assert found == Saved([], [])
        assert written(store, put(5))
    (aside,) = tmp_path.glob("set-aside-*")
    assert (aside / "state.db").exists()
    assert len(list((aside / "memories").iterdir())) == 2
    assert [kept.saved.id for kept in read(tmp_path).objects] == [5]
    (line,) = [record.message for record in caplog.records if "set aside" in record.message]
    assert says in line


# ------------------------------------------------------------------------------------------------ disks that fail


def test_a_folder_that_vanished_gets_everything_when_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    told: list[str | None] = []
    with opened(folder) as (store, _):
        store.on_failure(told.append)
        assert written(store, PutStream(CAM), put(1))
        folder.rename(tmp_path / "away")
        assert not written(store, put(2))
        assert not written(store, put(3))  # at once
        wait_until(lambda: store.wants_everything)
        assert written(store, Clear(), PutStream(CAM), put(2), put(3), everything=True)
        assert written(store, put(4))
    assert [kept.saved.id for kept in read(folder).objects] == [2, 3, 4]
    assert len(told) == 2
    assert told[1] is None


def test_watched_looks_that_are_gone_are_forgotten_and_newer_ones_are_not(tmp_path: Path) -> None:
    looks = [WatchedLook(number, "", 0.9, 1.0, "appearance", "m", b"", b"") for number in range(1, 6)]
    with opened(tmp_path / "state") as (store, _):
        assert written(store, *map(PutWatchedLook, looks))
        assert written(store, KeepWatchedLooks([2], last_id=4))
    database = apsw.Connection(str(tmp_path / "state" / DATABASE))
    assert list(database.execute("SELECT id FROM watched_looks ORDER BY id")) == [(2,), (5,)]
    database.close()


def test_state_that_could_not_be_read_at_the_start_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with opened(folder) as (store, _):
        assert written(store, put(1))
    folder.rename(tmp_path / "away")
    folder.write_text("a file in its place")
    with opened(folder) as (store, found):
        assert found == Saved([], [])
        folder.unlink()
        (tmp_path / "away").rename(folder)
        wait_until(lambda: store.wants_everything)
        assert written(store, Clear(), put(2), everything=True)
    (aside,) = folder.glob("set-aside-*")
    assert len(list((aside / "memories").iterdir())) == 1
    assert [kept.saved.id for kept in read(folder).objects] == [2]


# -------------------------------------------------------------------------------------------------------- history


def test_history_is_filtered_and_in_order(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, _):
        now = time.time()
        for k in range(20):
            store.record(event(stream=f"cam{k % 2}", object_id=k % 4 + 1, time_s=now + k))
        assert [e.time - now for e in history(store, limit=3)] == pytest.approx([17, 18, 19], abs=1e-3)
        assert [e.time - now for e in history(store, since=now + 4.5, limit=3)] == pytest.approx(
            [5, 6, 7], abs=1e-3
        )
        assert {e.stream for e in history(store, stream="cam1")} == {"cam1"}
        assert {e.object for e in history(store, stream="cam1", object=2)} == {2}
        assert history(store, since=now + 100) == []
    with opened(tmp_path) as (store, _):
        assert len(history(store)) == 20


def test_an_answer_holds_all_that_happened_before_the_question(tmp_path: Path) -> None:
    answers: list[list[Event] | None] = []
    with opened(tmp_path) as (store, _):

        def while_it_writes(_: bool) -> None:
            store.record(event())
            store.history(HistoryQuery(None, None, None, 100), answers.append)

        store.write([put(1)], while_it_writes)
        wait_until(lambda: answers)
    assert [len(found or []) for found in answers] == [1]


def test_a_writer_that_died_leaves_the_last_changes_to_who_stops_it(tmp_path: Path) -> None:
    def bug() -> None:
        raise RuntimeError("a bug")

    with opened(tmp_path) as (store, _):
        assert written(store, PutStream(CAM), put(1))
        store._answer_questions = bug  # type: ignore[method-assign]
        store.record(event())
        wait_until(lambda: not store.is_alive())
        store.write([put(2)])
    with opened(tmp_path) as (_, found):
        assert {kept.saved.id for kept in found.objects} == {1, 2}


def test_history_is_bounded_by_days_and_bytes(tmp_path: Path) -> None:
    with contextlib.closing(Database(tmp_path)) as database:
        now = time.time()
        database.apply([], [event(time_s=now - 3 * 86400), event(time_s=now - 86400)])
        database.trim_history(2, 2**20)
        everything = HistoryQuery(None, None, None, 4096)
        assert len(database.history(everything)) == 1
        for _ in range(10):
            database.apply([], [event(time_s=now) for _ in range(500)])
            database.trim_history(2, 100_000)
        assert 300 < len(database.history(everything)) < 600


# --------------------------------------------------------------------------------------------------------- kill -9

WRITER = """
import json, random, sys, threading
from pathlib import Path
from tracker.registry.rows import DropObject, PutObject, SavedObject
from tracker.registry.store import Store

def put(n, late=False):
    obj = SavedObject("cam", n, 7, (640, 480), None, {}, None, 3, None)
    return PutObject(obj, lambda: str(n).encode() * 2000, late)

def say(*what):
    sys.stdout.write(json.dumps(what) + chr(10))
    sys.stdout.flush()

def done(ok, says):
    assert ok
    say("done", says)
    open_requests.release()

store = Store(Path(sys.argv[1]), 30, 2**20)
store.open()
store.start()
run, there, open_requests = int(sys.argv[2]), [], threading.Semaphore(4)
n, rng = run * 100_000, random.Random(run)
while True:
    changes, says = [], []
    for _ in range(rng.randint(1, 4)):
        if there and rng.random() < 0.4:
            gone = there.pop(rng.randrange(len(there)))
            changes.append(DropObject("cam", gone))
            says.append(("drop", gone))
        else:
            n += 1
            there.append(n)
            changes.append(put(n))
            says.append(("put", n))
    open_requests.acquire()
    say("asked", says)
    store.write(changes, lambda ok, says=says: done(ok, says))
    if there:
        store.save_memory(put(there[-1], late=True))
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    expected: set[int] = set()
    for run in range(1, 6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(run)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines: list[str] = []
            while sum('"done"' in line for line in lines) < 5 * run:
                lines.append(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.readlines()
        asked = [says for kind, says in _parsed(lines) if kind == "asked"]
        done = sum(kind == "done" for kind, _ in _parsed(lines))
        with opened(tmp_path) as (store, found):
            there = {kept.saved.id for kept in found.objects}
            for kept in found.objects:
                assert store.memory(kept.memory_file) == str(kept.saved.id).encode() * 2000
        # All acknowledged units, and of the others a beginning, each of them whole.
        assert there in [_after(expected, asked[:k]) for k in range(done, len(asked) + 1)]
        assert files(tmp_path) == {f"cam.{n}" for n in there}
        expected = there


def _parsed(lines: list[str]) -> list[tuple[str, list[tuple[str, int]]]]:
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _after(before: set[int], units: list[list[tuple[str, int]]]) -> set[int]:
    there = set(before)
    for kind, number in (says for unit in units for says in unit):
        there = there | {number} if kind == "put" else there - {number}
    return there


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def put_look(stream: str, thumbnail_bytes: int) -> PutLook:
    vector = np.ones(256, np.float32).tobytes()
    about = "appearance", "m" * 16, stream, 1, 0, 1, 1.0, (0, 0, 9, 9), None
    return PutLook(Look(*about, bytes(thumbnail_bytes), vector))


def test_a_look_without_room_costs_no_request(small_disk: Path) -> None:
    with opened(small_disk / "state") as (store, _):
        assert written(store, PutStream(CAM), put(1))
        for k in range(20):
            store.save_look(put_look(f"cam{k}", 60_000))
        wait_until(lambda: store.failures > 0)
        assert written(store, put(2))
        assert not store.failed


def test_the_log_makes_room_for_a_memory(small_disk: Path) -> None:
    """Written again and again, rows fill SQLite's log; it is given back where the disk has no more room."""
    with opened(small_disk / "state") as (store, _):
        (small_disk / "ballast").write_bytes(bytes(350_000))
        for k in range(60):
            assert written(store, PutStream(CAM), put(k % 3, bytes(70_000)))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "memory")
    with pytest.raises(OSError, match="is no file"):
        read_file(tmp_path / "memory")
