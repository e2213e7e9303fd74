"""Stop one of three boxes (SIGSTOP, daemon and all) and wake it later: how long until its streams are live
elsewhere, how long until it gives them up when it wakes, and whether what is stored is what the new owners stored.

Clients of the fleet listen to all streams meanwhile; a token or frame number that does not grow ends the run.
"""

import argparse
import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benches.fleet_of_three import BOXES, Three, three_boxes
from benches.report import Row
from helpers.fleets import START_S
from helpers.waiting import wait_until
from tracker.fleet.buckets import Buckets, entry_of
from tracker.fleet.bundles import Bundle, get_bundle
from tracker.fleet.records import Claim, decoded
from tracker.protocol.placement import key_of

AFTERWARDS_S = 12.0  # longer than the time between two bundles: what the woken box would overwrite, it has by now


@dataclass(frozen=True, slots=True)
class Sleep:
    streams: int
    elsewhere_s: float
    given_up_s: float  # after waking
    not_the_new_owners: int  # stored bundles
    owners: int  # heard of the streams of the box, by all their listeners
    gaps_s: list[float]  # that these were told


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with three_boxes() as three:
        sleeps = [_stopped(three, BOXES[run % len(BOXES)], args.seconds, run) for run in range(args.runs)]
    yield {
        "stopped": args.runs,
        "for s": args.seconds,
        "streams": sum(sleep.streams for sleep in sleeps),
        "owners heard": sum(sleep.owners for sleep in sleeps),
        "gaps told": sum(len(sleep.gaps_s) for sleep in sleeps),
        "of s at most": round(max(gap_s for sleep in sleeps for gap_s in sleep.gaps_s), 1),
        "live elsewhere s, median": round(statistics.median(sleep.elsewhere_s for sleep in sleeps), 1),
        "at most": round(max(sleep.elsewhere_s for sleep in sleeps), 1),
        "given up s after waking, median": round(statistics.median(sleep.given_up_s for sleep in sleeps), 2),
        "at most ": round(max(sleep.given_up_s for sleep in sleeps), 2),
        "stored by the old owner": sum(sleep.not_the_new_owners for sleep in sleeps),
    }


def _stopped(three: Three, victim: str, asleep_s: float, run: int) -> Sleep:
    fleet, label = three.fleet, f"after {run}"
    theirs = three.on(victim)
    with fleet.client(victim) as old, three.heard() as ears:
        fleet.boxes[victim].signal(signal.SIGSTOP)
        began_s = time.monotonic()
        three.are_elsewhere(victim)
        elsewhere_s = time.monotonic() - began_s
        for stream in theirs:
            assert three.client.update(stream, three.objects[stream], label=label).durable
        time.sleep(max(0.0, asleep_s - (time.monotonic() - began_s)))
        fleet.boxes[victim].signal(signal.SIGCONT)
        began_s = time.monotonic()
        wait_until(lambda: not {record.stream for record in old.streams().streams} & set(theirs), START_S)
        given_up_s = time.monotonic() - began_s
        time.sleep(AFTERWARDS_S)
    foreign = sum(not _is_stored(three, stream, label) for stream in theirs)
    fleet.wait_for_boxes(BOXES)
    owners = sum(len(ears[stream].owners) for stream in theirs)
    gaps_s = [gap_s for stream in theirs for gap_s in ears[stream].gaps_s]
    return Sleep(len(theirs), elsewhere_s, given_up_s, foreign, owners, gaps_s)


def _is_stored(three: Three, stream: str, label: str) -> bool:
    """Whether the bundle that counts has the label that the new owner was told."""

    async def newest(buckets: Buckets) -> Bundle:
        claim: Claim = decoded((await entry_of(buckets.claims, key_of(stream))).value, Claim)
        return await get_bundle(buckets.js, stream, [claim.bundle or ""])

    return [one.record.label for one in three.fleet.do(newest).objects] == [label]
