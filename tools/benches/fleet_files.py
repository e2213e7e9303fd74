"""Pictures submitted to three boxes, one of which is killed, daemon and all, when a tenth is done: whether all were
done, and whether all results are there whole."""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benches.fleet_of_three import BOXES
from benches.report import Row
from helpers import fleet_files
from helpers.fleets import LOOK_S, START_S, running
from helpers.waiting import wait_until


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = fleet_files.pictures_in(folder / "pictures", args.pictures)
        results = folder / "results"
        jobs = {"inputs": [str(folder / "pictures")], "results": str(results), "device": "cpu"}
        with running(folder, BOXES, folder, {box: {"jobs": jobs} for box in BOXES}) as fleet:
            began_s = time.monotonic()
            job = fleet_files.submit(fleet, fleet_files.segmenting("coco", "masks"), pictures)
            submitted_s = time.monotonic() - began_s
            wait_until(lambda: fleet_files.progress(fleet, job).done >= args.pictures / 10, START_S, LOOK_S)
            fleet.boxes[BOXES[0]].kill()
            now = fleet_files.wait_for_all(fleet, job)
            seconds = time.monotonic() - began_s
        wrong = fleet_files.wrong_results(results / job.job, pictures)
    yield {
        "pictures": args.pictures,
        "submitted s": round(submitted_s, 1),
        "all done s": round(seconds, 1),
        "done": now.done,
        "failed": now.failed,
        "missing, half-written or too much": len(wrong),
    }
