"""Runs one stream under libfaketime while the wall clock leaps: `python clock_leaps.py URL CLOCK_FILE`."""

import json
import sys
from pathlib import Path

from streams import running


def main(url: str, clock: Path) -> None:
    leaps_s = []
    with running(url) as cam:
        cam.wait_frames(10)
        for setting in ("-3600", "+3600"):
            count = len(cam.frames)
            before = cam.frames[-1]
            clock.write_text(setting)
            cam.wait_frames(count + 36)  # longer than a stall would take
            after = cam.frames[-1]
            leaps_s.append(after.time - before.time - (after.mono_ns - before.mono_ns) / 1e9)
        told = {"events": cam.names(), "reconnects": cam.stream.reconnects, "leaps_s": leaps_s}
    sys.stdout.write(json.dumps(told))


main(sys.argv[1], Path(sys.argv[2]))
