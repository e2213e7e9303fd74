"""Kill one of three boxes, daemon and all, again and again: how long until all its streams are live elsewhere,
whether every object that was acknowledged is there under its id, and how long until it is seen again."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benches.report import Row
from helpers.fleets import START_S, TestFleet, running
from helpers.waiting import wait_until
from tracker.client import Client
from tracker.fleet.settings import WantedStream
from tracker.images.video_writer import VideoWriter

BOXES = ["a", "b", "c"]
STREAMS = [f"cam{i}" for i in range(6)]
SIZE_WH = (160, 120)
OBJECT_XYXY = (110, 80, 130, 100)


def film(path: Path) -> Path:
    """A bright square at rest, in sight in every frame."""
    rng = np.random.default_rng(0)
    with VideoWriter(path, SIZE_WH, 5) as video:
        for _ in range(50):
            picture = rng.integers(50, 70, (SIZE_WH[1], SIZE_WH[0], 3)).astype(np.uint8)
            cv2.rectangle(picture, OBJECT_XYXY[:2], OBJECT_XYXY[2:], (230, 230, 230), -1)
            video.write(picture)
    return path


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = film(folder / "film.mp4")
        with running(folder, BOXES, folder) as fleet, Client(fleet=fleet.nats.url) as client:
            fleet.apply({name: WantedStream(url=str(source), loop=True) for name in STREAMS})
            fleet.wait_for(lambda live: len(live) == len(STREAMS))
            kept = {name: [_acknowledged(client, name)] for name in STREAMS}
            lives = [_killed(fleet, client, kept, i) for i in range(args.runs)]
    elsewhere_s = sorted(life[0] for life in lives)
    seen_s = sorted(life[1] for life in lives)
    yield {
        "killed": args.runs,
        "streams lost by each": f"{min(life[2] for life in lives)} to {max(life[2] for life in lives)}",
        "live elsewhere s, median": round(statistics.median(elsewhere_s), 1),
        "at most": round(elsewhere_s[-1], 1),
        "objects acknowledged": sum(map(len, kept.values())),
        "missing": sum(life[3] for life in lives),
        "seen again s after that, median": round(statistics.median(seen_s), 1),
        "at most ": round(seen_s[-1], 1),
    }


def _all_seen(client: Client, stream: str) -> bool:
    return all(entry.state == "visible" for entry in client.objects(stream).objects)


def _acknowledged(client: Client, stream: str) -> int:
    added = client.add(stream, box=OBJECT_XYXY)
    assert added.durable, "the fleet did not store it"
    return added.object


def _killed(
    fleet: TestFleet, client: Client, kept: dict[str, list[int]], run: int
) -> tuple[float, float, int, int]:
    """Seconds until the box's streams are live elsewhere, and then until their objects are seen; how many streams,
    and how many of their objects are missing."""
    victim = BOXES[run % len(BOXES)]
    theirs = [name for name, box in fleet.live().items() if box == victim]
    if theirs and len(kept[theirs[0]]) < 4:
        kept[theirs[0]].append(_acknowledged(client, theirs[0]))
    fleet.boxes[victim].kill()
    began_s = time.monotonic()
    fleet.wait_for(lambda live: len(live) == len(STREAMS) and victim not in live.values())
    elsewhere_s = time.monotonic() - began_s
    missing = 0
    for name in theirs:
        there = {entry.object for entry in client.objects(name).objects}
        missing += len(set(kept[name]) - there)
    began_s = time.monotonic()
    for name in theirs:
        wait_until(partial(_all_seen, client, name), START_S)
    seen_s = time.monotonic() - began_s
    fleet.start_what_is_not_running()
    return elsewhere_s, seen_s, len(theirs), missing
