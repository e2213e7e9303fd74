"""Weigh a daemon's state folder after it followed the pond's fish for some minutes.

Bytes are of SQLite's pages, table by table, after everything was written out. Looks come by how much an object
changes, so a film that begins again and again gives less than a street does; an object's bound holds everywhere.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import yaml

from benches.report import Row
from pond.scene import FPS, FRAMES, HEIGHT, WIDTH, render
from tracker.client import Client
from tracker.images.video_writer import VideoWriter
from tracker.registry.similar import Look, Looks

TRACKERD = str(Path(sys.executable).with_name("trackerd"))
CLIP_DIMENSIONS = 512
START_S = 120.0


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = _followed(folder, args.minutes * 60)
        yield from _weighed(folder / "state", objects, args.minutes / 60)
        yield _clip_look(folder / "state")


def _followed(folder: Path, seconds: float) -> int:
    """Run a daemon on the pond; returns how many objects it followed."""
    film = pond_film(folder / "pond.mp4")
    endpoint = f"ipc://{folder}/control"
    settings = {
        "control": {"endpoint": endpoint},
        "publish": {"endpoint": f"ipc://{folder}/publish"},
        "engine": {"threads": 1},
        "persist": {"dir": str(folder / "state")},
        "streams": {"pond": {"url": str(film), "loop": True}},
    }
    config = folder / "trackerd.yaml"
    config.write_text(yaml.safe_dump(settings))
    with subprocess.Popen([TRACKERD, "serve", "-c", config]) as process:
        try:
            with Client(endpoint, timeout_s=START_S) as client:
                objects = add_fish(client)
                time.sleep(seconds)
        finally:
            process.terminate()
    return objects


def pond_film(path: Path) -> Path:
    with VideoWriter(path, (WIDTH, HEIGHT), FPS) as video:
        for picture, _ in render():
            video.write(picture)
    return path


def add_fish(client: Client) -> int:
    """Track all fish of a frame; how many they are."""
    while client.streams().streams[0].frame is None:
        time.sleep(0.1)
    frame = client.snapshot("pond", pin_s=60).frame
    truth_hw = [truth_hw for _, truth_hw in render()][frame % FRAMES]
    fish = [int(number) for number in set(truth_hw.ravel().tolist()) if number]
    for number in fish:
        client.add("pond", frame=frame, mask=truth_hw == number)
    return len(fish)


def _weighed(state: Path, objects: int, hours: float) -> Iterator[Row]:
    connection = apsw.Connection(str(state / "state.db"))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    pages = dict[str, int](connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
    of_vectors = sum(nbytes for name, nbytes in pages.items() if name.startswith("looks_appearance"))
    of_looks = sum(nbytes for name, nbytes in pages.items() if "looks" in name) - of_vectors
    of_events = sum(nbytes for name, nbytes in pages.items() if name.startswith("events"))
    ((looks,),) = connection.execute("SELECT count(*) FROM looks")
    ((events,),) = connection.execute("SELECT count(*) FROM events")
    yield _row("looks, without vectors", objects, hours, looks, of_looks)
    yield _row("their vectors, 1024 places a stream", objects, hours, looks, of_vectors)
    yield _row("events", objects, hours, events, of_events)
    connection.close()
    memories = list((state / "memories").iterdir())
    yield _row("memories", objects, hours, len(memories), sum(path.stat().st_size for path in memories))


def _row(what: str, objects: int, hours: float, count: int, nbytes: int) -> Row:
    return {
        "what": what,
        "objects": objects,
        "kept": count,
        "bytes each": round(nbytes / max(1, count)),
        "bytes an object": round(nbytes / objects),
        "bytes an object and hour": round(nbytes / objects / hours),
    }


def _clip_look(state: Path) -> Row:
    """A thousand of the looks that were kept, with a vector as long as CLIP's."""
    source = apsw.Connection(str(state / "state.db"))
    ((thumbnail,),) = source.execute("SELECT thumbnail FROM looks ORDER BY length(thumbnail) DESC LIMIT 1")
    source.close()
    connection = apsw.Connection(str(state / "clip.db"))
    looks = Looks(connection)
    count = 1000
    with connection:
        for k in range(count):
            about = "clip", "a" * 64, "pond", k // 8, k % 8, k, float(k), (0, 0, 9, 9), None
            looks.put(Look(*about, thumbnail, bytes(4 * CLIP_DIMENSIONS)))
    connection.close()
    return _row("looks by CLIP", count // 8, 1.0, count, (state / "clip.db").stat().st_size)
