"""NATS is stopped, then one of three boxes is cut off from NATS alone: what is heard meanwhile, what moves, and how
long until everything is as it should be.

Clients of the fleet listen to all streams; a token or frame number that does not grow, which is what two voices at
once would give, ends the run.
"""

import argparse
import time
from collections.abc import Iterator

from benches.fleet_of_three import BOXES, FPS, STREAMS, Three, three_boxes
from benches.report import Row
from helpers.fleets import START_S
from helpers.waiting import wait_until
from tracker.fleet.settings import WantedStream


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with three_boxes() as three:
        yield _away(three, args.seconds) | _cut_off(three, BOXES[-1], args.seconds)


def _away(three: Three, away_s: float) -> Row:
    fleet = three.fleet
    with three.heard() as ears:
        before = three.owners()
        fleet.nats.stop()
        counts = {stream: ears[stream].messages for stream in STREAMS}
        time.sleep(away_s)
        heard = [ears[stream].messages - counts[stream] for stream in STREAMS]
        fleet.nats.start()
        began_s = time.monotonic()
        fleet.apply({"late": WantedStream(url=str(three.source), loop=True)})
        fleet.wait_for(lambda live: len(live) == len(STREAMS) + 1)
        resumed_s = time.monotonic() - began_s
        fleet.wait_for_boxes(BOXES)
        after = three.owners()
    del after["late"]
    three.fleet.apply({stream: WantedStream(url=str(three.source), loop=True) for stream in STREAMS}, prune=True)
    fleet.wait_for(lambda live: len(live) == len(STREAMS))
    return {
        "NATS away s": away_s,
        "heard of each stream meanwhile, at least": f"{min(heard)} of {round(away_s * FPS)}",
        "longest silence s": round(max(one.longest_s for one in ears.values()), 1),
        "moved": sum(before[stream] != after[stream] for stream in STREAMS),
        "a new stream live s after": round(resumed_s, 1),
    }


def _cut_off(three: Three, victim: str, cut_s: float) -> Row:
    fleet = three.fleet
    before = three.owners()
    theirs = three.on(victim)
    assert theirs, "the box that is to be cut off has no stream"
    with fleet.client(victim) as old, three.heard() as ears:
        fleet.network.cut()
        began_s = time.monotonic()
        three.are_elsewhere(victim)
        elsewhere_s = time.monotonic() - began_s
        still_there = {record.stream for record in old.streams().streams} & set(theirs)
        time.sleep(max(0.0, cut_s - elsewhere_s))
        fleet.network.mend()
        began_s = time.monotonic()
        wait_until(lambda: not old.streams().streams, START_S)
        given_up_s = time.monotonic() - began_s
        after = three.owners()
    return {
        "cut off s": cut_s,
        "its streams": len(theirs),
        "live elsewhere s": round(elsewhere_s, 1),
        "still served there": len(still_there),
        "followed by listeners": sum(len(ears[stream].owners) == 2 for stream in theirs),
        "longest silence s ": round(max(ears[stream].longest_s for stream in theirs), 1),
        "given up s after": round(given_up_s, 1),
        "others moved": sum(before[stream] != after[stream] for stream in STREAMS if stream not in theirs),
    }
