"""Three boxes whose daemons run, and twelve streams: how long until all are live, and how many are on each box.

Each run begins with a fleet that has no streams.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator

from benches.fleet_of_three import BOXES, Three, three_boxes
from benches.report import Row
from tracker.fleet.settings import WantedStream

TWELVE = [f"cam{i}" for i in range(12)]


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with three_boxes() as three:
        placed = [_placed(three) for _ in range(args.runs)]
    counts = [count[box] for _, count in placed for box in BOXES]
    yield {
        "applied": args.runs,
        "streams": len(TWELVE),
        "all live s, at most": round(max(seconds for seconds, _ in placed), 1),
        "on each box": f"{min(counts)} to {max(counts)}",
    }


def _placed(three: Three) -> tuple[float, Counter[str]]:
    fleet = three.fleet
    fleet.apply({}, prune=True)
    fleet.wait_for(lambda live: not live)
    began_s = time.monotonic()
    fleet.apply({stream: WantedStream(url=str(three.source), loop=True) for stream in TWELVE})
    live = fleet.wait_for(lambda live: len(live) == len(TWELVE))
    return time.monotonic() - began_s, Counter(live.values())
