"""Kill one of three boxes, daemon and all, again and again: how long until all its streams are live elsewhere,
whether every object that was acknowledged is there under its id, and how long until it is seen again."""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benches.fleet_of_three import BOXES, Three, acknowledged, three_boxes
from benches.report import Row
from helpers.fleets import START_S
from helpers.waiting import wait_until
from tracker.client import Client

MOST_OBJECTS = 4  # of a stream: each killed box leaves one more


@dataclass(frozen=True, slots=True)
class Life:
    streams: int  # that the box had
    elsewhere_s: float  # until all of them were live on other boxes
    missing: int  # acknowledged objects that were not there under their ids
    seen_s: float  # after that, until all objects were seen


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with three_boxes() as three:
        kept = {stream: [number] for stream, number in three.objects.items()}
        lives = [_killed(three, kept, BOXES[run % len(BOXES)]) for run in range(args.runs)]
    yield {
        "killed": args.runs,
        "streams lost by each": f"{min(life.streams for life in lives)} to {max(life.streams for life in lives)}",
        "live elsewhere s, median": round(statistics.median(life.elsewhere_s for life in lives), 1),
        "at most": round(max(life.elsewhere_s for life in lives), 1),
        "objects acknowledged": sum(map(len, kept.values())),
        "missing": sum(life.missing for life in lives),
        "seen again s after that, median": round(statistics.median(life.seen_s for life in lives), 1),
        "at most ": round(max(life.seen_s for life in lives), 1),
    }


def _killed(three: Three, kept: dict[str, list[int]], victim: str) -> Life:
    theirs = three.on(victim)
    if theirs and len(kept[theirs[0]]) < MOST_OBJECTS:
        kept[theirs[0]].append(acknowledged(three.client, theirs[0]))
    three.fleet.boxes[victim].kill()
    began_s = time.monotonic()
    three.are_elsewhere(victim)
    elsewhere_s = time.monotonic() - began_s
    missing = sum(len(set(kept[stream]) - _there(three.client, stream)) for stream in kept)
    began_s = time.monotonic()
    for stream in theirs:
        wait_until(partial(_all_seen, three.client, stream), START_S)
    seen_s = time.monotonic() - began_s
    three.fleet.start_what_is_not_running()
    return Life(len(theirs), elsewhere_s, missing, seen_s)


def _there(client: Client, stream: str) -> set[int]:
    return {entry.object for entry in client.objects(stream).objects}


def _all_seen(client: Client, stream: str) -> bool:
    return all(entry.state == "visible" for entry in client.objects(stream).objects)
