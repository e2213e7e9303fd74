"""Runs one stream under libfaketime while the wall clock leaps: `python -m helpers.clock_leaps URL CLOCK_FILE`."""

import json
import sys
from functools import partial
from pathlib import Path

from helpers.streams import Watched, running
from tracker.images.types import Frame


def main(url: str, clock: Path) -> None:
    leaps_s: list[float] = []
    with running(url) as cam:
        cam.wait_frames(10)
        for setting in ("-3600", "+3600"):
            before = cam.frames[-1]
            clock.write_text(setting)
            cam.wait(partial(leapt, cam, before))
            leaps_s.append(leap_s(before, cam.frames[-1]))
            cam.wait_frames(len(cam.frames) + 36)  # longer than a stall would take
        told = {"events": cam.names(), "reconnects": cam.stream.reconnects, "leaps_s": leaps_s}
    sys.stdout.write(json.dumps(told))


def leapt(cam: Watched, before: Frame) -> bool:
    return abs(leap_s(before, cam.frames[-1])) > 1000


def leap_s(before: Frame, after: Frame) -> float:
    """How much further the wall clock went than the monotonic one."""
    return after.time - before.time - (after.mono_ns - before.mono_ns) / 1e9


main(sys.argv[1], Path(sys.argv[2]))
