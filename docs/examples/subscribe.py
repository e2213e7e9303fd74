"""Prints what the tracker sees, from Python.

python subscribe.py [STREAM] [COUNT]

TRACKER_CONTROL names another control socket than tcp://127.0.0.1:5570.
"""

import itertools
import sys

from tracker.client import Client, mask_of
from tracker.errors import TrackerError
from tracker.protocol.messages import Tracks
from tracker.protocol.records import ObjectRecord


def describe(record: ObjectRecord, size_wh: tuple[int, int]) -> str:
    where = f"at {record.box}, {mask_of(record, size_wh).sum()} pixels" if record.box else "nowhere"
    return f"{record.object} {record.label or ''} {record.state} {where}".replace("  ", " ")


def main(stream: str | None = None, count: str | None = None) -> None:
    with (
        Client() as client,
        client.subscribe(stream, ["tracks"]) as messages,
    ):
        for message in itertools.islice(messages, int(count) if count else None):
            if message.restarted:
                sys.stderr.write(f"{message.topic}: the tracker was restarted\n")
            elif message.lost:
                sys.stderr.write(f"{message.topic}: {message.lost} messages lost\n")
            tracks = message.body
            assert isinstance(tracks, Tracks)
            seen = [describe(record, tracks.size) for record in tracks.objects]
            sys.stdout.write("  ".join([f"{tracks.stream} #{tracks.frame}", *seen]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 3 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except TrackerError as error:
        sys.exit(f"{error.code}: {error.message}")
