"""Drain each of three boxes in turn: how many streams that moves, and the longest time without a frame that clients
of the fleet heard of any of them. The film has five frames a second and begins anew every ten seconds, so that some
of a second is silent without any move: `of those that stayed` says how much."""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benches.fleet_of_three import BOXES, STREAMS, Three, three_boxes
from benches.report import Row
from helpers.fleets import START_S
from helpers.waiting import wait_until
from tracker.fleet import moves


@dataclass(frozen=True, slots=True)
class Drained:
    seconds: float  # until the box had no stream
    silences_s: list[float]  # the longest of each stream that moved
    others_s: list[float]  # and of each that stayed
    lost_objects: int


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with three_boxes() as three:
        drains = [_drained(three, BOXES[run % len(BOXES)]) for run in range(args.runs)]
    silences_s = [silence_s for drained in drains for silence_s in drained.silences_s]
    others_s = [silence_s for drained in drains for silence_s in drained.others_s]
    yield {
        "drained": args.runs,
        "streams moved": len(silences_s),
        "longest silence s, median": round(statistics.median(silences_s), 2),
        "at most": round(max(silences_s), 2),
        "of those that stayed": round(max(others_s, default=0.0), 2),
        "drained after s, at most": round(max(drained.seconds for drained in drains), 1),
        "objects lost": sum(drained.lost_objects for drained in drains),
    }


def _drained(three: Three, box: str) -> Drained:
    fleet = three.fleet
    theirs = three.on(box)
    with three.heard() as ears, fleet.client(box) as old:
        began_s = time.monotonic()
        fleet.do(partial(moves.drain, box=box))
        three.are_elsewhere(box)
        wait_until(lambda: not old.streams().streams, START_S)
        seconds = time.monotonic() - began_s
    objects = {stream: {entry.object for entry in three.client.objects(stream).objects} for stream in STREAMS}
    lost = sum(three.objects[stream] not in objects[stream] for stream in STREAMS)
    fleet.do(partial(moves.undo_drain, box=box))
    fleet.wait_for_boxes(BOXES)
    silences_s = {stream: heard.longest_s for stream, heard in ears.items()}
    return Drained(
        seconds,
        [silences_s[stream] for stream in theirs],
        [silences_s[stream] for stream in STREAMS if stream not in theirs],
        lost,
    )
